"""Registry of the search spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces._common.errors import UserError
from search_spaces._common.names import unknown_name
from search_spaces._common.references import check_arguments, is_reference
from search_spaces.options import added_dimensions
from search_spaces.space import SearchSpace
from search_spaces.spaces.config import SpaceSection
from search_spaces.spaces.custom import custom_space
from search_spaces.spaces.encoder_decoder import EncoderDecoderSpace
from search_spaces.spaces.mobile_stages import MobileStagesSpace
from search_spaces.spaces.references import ReferencesSpace

SPACES: dict[str, type[SearchSpace]] = {
    space.name: space for space in (EncoderDecoderSpace, MobileStagesSpace, ReferencesSpace)
}


def get_space(name: str, options: Mapping[str, Any] | None = None) -> SearchSpace:
    """Make the space called ``name`` with ``options`` for its constructor.

    Args:
        name: a key of ``SPACES``, or ``module:name`` of a custom space (`NetworkSpace` or `SearchSpace`).
        options: arguments of its constructor; ``precisions`` and ``training`` add dimensions to any space.

    Raises:
        UserError: the name, an option, or an option's value is unknown; the message suggests the nearest.
    """
    given = dict(options or {})
    added = added_dimensions(given.pop("precisions", None), given.pop("training", {}))
    if is_reference(name):
        made = custom_space(name, given)
    elif name in SPACES:
        check_arguments(f"search space {name!r}", SPACES[name], given)
        made = SPACES[name](**given)
    else:
        raise UserError(f"{unknown_name('search space', name, SPACES)} One of your own is written module:name.")
    made.added_dimensions = added
    return made


def open_space(section: SpaceSection) -> SearchSpace:
    """Make the search space that the section ``space`` of a YAML file describes. Raises as `get_space`."""
    return get_space(section.name, section.arguments())
