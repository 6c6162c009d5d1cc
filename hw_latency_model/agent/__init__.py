"""The measuring agent: one file that runs on the device itself (Python 3.6, standard library), importable here too."""
