"""The append-only store of measurements."""
