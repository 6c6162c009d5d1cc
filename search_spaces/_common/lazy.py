"""Package attributes that are imported on first use (PEP 562), so that importing a package stays quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, modules: Mapping[str, Iterable[str]], *, eager: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make the ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names are looked up on first use.

    The package lists the same names under ``if TYPE_CHECKING`` as ``from module import name as name``; a test compares both.

    Args:
        package: its ``__name__``.
        modules: submodule, relative to the package, to the names it exports.
        eager: public names that the package imports itself.
    """
    homes = {name: f"{package}.{module}" for module, names in modules.items() for name in names}
    public = sorted({*homes, *eager})

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return __getattr__, lambda: list(public), public
