"""Search spaces, their candidates and networks, and structured pruning.

Names that need torch are imported on first use, so that ``import search_spaces`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate, ParamValue
from search_spaces.registry import SPACES, get_space
from search_spaces.space import SearchSpace
from search_spaces.spaces.custom import NetworkSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import SegmentationNet, reparameterize, upsample_logits

__all__ = [
    "SPACES",
    "Candidate",
    "NetworkSpace",
    "ParamValue",
    "SearchSpace",
    "SegmentationNet",
    "UserError",
    "get_space",
    "reparameterize",
    "upsample_logits",
]

_FROM_NETWORKS = ("SegmentationNet", "reparameterize", "upsample_logits")


def __getattr__(name: str) -> Any:
    if name in _FROM_NETWORKS:
        from search_spaces.networks import segmentation_net as networks

        return getattr(networks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
