"""HTML report of a study."""
