"""The one exception that is shown to a user as a sentence, not as a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: the message states the rule, the value found, and the next step.

    The command line prints the message alone and exits with status 2; every other exception is a defect of ours
    and keeps its traceback.
    """
