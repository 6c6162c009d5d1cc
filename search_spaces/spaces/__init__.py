"""The search spaces, and their section of a study's YAML."""
