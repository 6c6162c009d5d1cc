"""The latency model: priors, corrections, intervals, its file."""
