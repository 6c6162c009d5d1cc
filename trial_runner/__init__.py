"""Doing it: study configuration, command line, the Ray Tune bridge, early stopping, training."""
