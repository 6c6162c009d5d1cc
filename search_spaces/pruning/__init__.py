"""Structured pruning: groups of coupled channels, importance scores, allocation."""
