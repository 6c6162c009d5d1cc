"""Plotly figures of a study and of a latency model."""
