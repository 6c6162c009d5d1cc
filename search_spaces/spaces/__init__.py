"""The search spaces, and the section ``space`` of a study's YAML."""
