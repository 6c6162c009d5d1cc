"""The error of a failed export."""

from __future__ import annotations

from search_spaces._common.errors import UserError


class ExportError(UserError):
    """A candidate cannot be exported; the message gives the candidate, the cause, and the next step."""
