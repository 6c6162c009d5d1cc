"""The error of a failed export."""

from __future__ import annotations

from search_spaces._common.errors import UserError


class ExportError(UserError):
    """A candidate cannot be exported; the message gives the candidate, the cause, and the next step."""


class ParityError(ExportError):
    """An exported form of a network is not the network that was trained: it must not be deployed."""


class DynamicShapeError(ExportError):
    """A tensor's size is neither in the ONNX file nor given; the message names the input and gives the next step."""
