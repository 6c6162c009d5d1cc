"""Measurement of networks on this machine."""
