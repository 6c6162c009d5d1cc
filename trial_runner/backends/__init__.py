"""Execution backends: Ray Tune, and in the driver's own process."""
