"""Calibrating a board: its description, the plan, the session, the results."""
