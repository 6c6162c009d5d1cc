"""Checks of a candidate before it is trained: latency, other costs, and the target's limits."""
