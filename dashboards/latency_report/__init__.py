"""HTML report of a latency model."""
