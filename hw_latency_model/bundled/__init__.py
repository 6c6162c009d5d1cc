"""Latency models that ship with the package, and the Jetson Nano's prior."""
