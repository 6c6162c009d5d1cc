"""Procedural aerial disaster scenes of the synthetic data set."""

from __future__ import annotations

from objectives.data.scenes.themes import THEMES, render_scene

__all__ = ["THEMES", "render_scene"]
