"""Append-only store of measurements."""
