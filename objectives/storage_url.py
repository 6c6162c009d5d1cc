"""How a study's storage URL is shown; the measurement store, a layer below, shows its own the same way."""

from __future__ import annotations

from search_spaces.urls import HIDDEN, redact_url

__all__ = ["HIDDEN", "redact_url"]
