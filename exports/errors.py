"""Why a network could not be exported, as a sentence for the user."""

from __future__ import annotations

from search_spaces._common.errors import UserError


class ExportError(UserError):
    """A candidate cannot become files that a device runs: the message names it, the cause, and the next step."""
