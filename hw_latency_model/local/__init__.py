"""Measuring networks on this machine, and which to measure."""
