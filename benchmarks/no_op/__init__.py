"""Studies whose trials train nothing, for `benchmarks.overhead`."""
