"""The search spaces by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from search_spaces._common.names import unknown_name
from search_spaces.options import added_dimensions
from search_spaces.space import SearchSpace
from search_spaces.spaces.encoder_decoder import EncoderDecoderSpace
from search_spaces.spaces.mobile_stages import MobileStagesSpace
from search_spaces.spaces.references import ReferencesSpace

SPACES: dict[str, type[SearchSpace]] = {
    space.name: space for space in (EncoderDecoderSpace, MobileStagesSpace, ReferencesSpace)
}


def get_space(name: str, options: Mapping[str, Any] | None = None) -> SearchSpace:
    """The space called ``name`` with ``options`` for its constructor; ``precisions`` and ``training`` add dimensions to any space.

    Raises:
        UserError: the name, an option, or an option's value is not known; the message names the nearest that is.
    """
    if name not in SPACES:
        raise unknown_name("search space", name, SPACES)
    space = SPACES[name]
    given = dict(options or {})
    added = added_dimensions(given.pop("precisions", None), given.pop("training", {}))
    known = [option for option in inspect.signature(space.__init__).parameters if option != "self"]
    for option in given:
        if option not in known:
            raise unknown_name(f"option of search space {name!r}:", option, known)
    made = space(**given)
    made.added_dimensions = added
    return made
