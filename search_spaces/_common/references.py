"""Objects of user modules, named ``module:name`` in a YAML file and imported where they are needed.

A reference is text, so that it travels with the configuration: each worker imports the module itself. The YAML's folder is
put first on ``sys.path``, as Python does with the folder of a script.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from search_spaces._common.errors import UserError
from search_spaces._common.names import unknown_name

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_reference(text: object) -> bool:
    """Return True for text of the form ``module:name``, such as ``mypkg.spaces:MySpace``."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def add_import_folder(folder: Path | None) -> None:
    """Put ``folder`` first on ``sys.path`` unless it is there; None changes nothing."""
    if folder is not None and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def resolve(reference: str, what: str) -> Any:
    """Import the object that a reference names.

    Args:
        reference: ``module:name``; a name with dots is an attribute of an attribute.
        what: the YAML key of the reference, for errors: ``space.name``.

    Raises:
        UserError: the text is not a reference, the module or name does not exist, or importing the module fails.
    """
    if not is_reference(reference):
        raise UserError(f"{what} must be written module:name, such as mypkg.module:name, but is {reference!r}.")
    module_name, _, path = reference.partition(":")
    if module_name == "__main__":
        raise UserError(
            f"{what} is {reference!r}, but other processes cannot import what a script or notebook defines. Write it into a file "
            "beside the study, such as mine.py, and name it mine:" + path + "."
        )
    found: Any = _import(module_name, reference, what)
    for name in path.split("."):
        if not hasattr(found, name):
            public = [item for item in vars(found) if not item.startswith("_")]
            raise UserError(f"{what} is {reference!r}: {unknown_name(f'name in {module_name}', name, public)}")
        found = getattr(found, name)
    return found


def resolve_callable(reference: str, what: str) -> Any:
    """Import the function or class that a reference names.

    Raises:
        UserError: as `resolve`, or the object is not callable.
    """
    found = resolve(reference, what)
    if not callable(found):
        raise UserError(
            f"{what} is {reference!r}, which is a {type(found).__name__}: it must name a function or a class."
        )
    return found


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of a function or constructor by name; none for one written in C that does not expose them."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}


def check_arguments(what: str, function: Callable[..., Any], given: Iterable[str], also: Iterable[str] = ()) -> None:
    """Compare the names of options with a function's or constructor's parameters.

    Args:
        what: the object with these options, for errors: ``search space 'mypkg:MySpace'``.
        function: a class or function; positional-only parameters are ignored.
        given: names of the options.
        also: further valid names.

    Raises:
        UserError: an option is not a parameter (the message suggests the nearest), or a required parameter has no option.
    """
    parameters = parameters_of(function).values()
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    known = [*(item.name for item in named), *also]
    if not any(item.kind is item.VAR_KEYWORD for item in parameters):
        for option in given:
            if option not in known:
                raise unknown_name(f"option of {what}:", option, known)
    missing = [item.name for item in named if item.default is item.empty and item.name not in given]
    if missing:
        raise UserError(f"{what} needs the option {missing[0]}: add it.")


def _import(name: str, reference: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{what} is {reference!r}, but there is no module {error.name!r}. Put it beside the YAML file or install it; "
                "on a cluster, on every node."
            ) from error
        raise _failed(error, name, reference, what) from error
    except (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError) as error:
        raise _failed(error, name, reference, what) from error
    except (RuntimeError, SyntaxError, TypeError, ValueError) as error:
        raise _failed(error, name, reference, what) from error


def _failed(error: Exception, name: str, reference: str, what: str) -> UserError:
    return UserError(
        f"{what} is {reference!r}, but importing {name} failed: {type(error).__name__}: {error}. "
        f'Correct the module; `python -c "import {name}"` in its folder shows where.'
    )
