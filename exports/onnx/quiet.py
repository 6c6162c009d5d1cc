"""Keeping the exporter's chatter away from the user's terminal without swallowing anybody else's output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_CHATTY_LOGGERS = ("torch.onnx", "onnxslim", "onnxscript", "onnx_ir")


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence Python warnings and the exporter's loggers below ERROR. Exceptions, and stdout itself, pass untouched.

    stdout is left alone on purpose: redirecting it would also swallow what other threads print meanwhile.
    """
    loggers = [logging.getLogger(name) for name in _CHATTY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
