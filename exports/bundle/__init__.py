"""The bundle: one folder with everything that is needed to run a network."""
