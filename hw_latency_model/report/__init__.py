"""The latency report's numbers."""
