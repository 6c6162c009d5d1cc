"""Search spaces, their candidates and networks, and structured pruning.

Names that need torch are imported on first use, so that ``import search_spaces`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search_spaces._common.errors import UserError as UserError
from search_spaces._common.lazy import lazy_exports
from search_spaces.candidate import Candidate as Candidate, ParamValue as ParamValue
from search_spaces.registry import SPACES as SPACES, get_space as get_space, open_space as open_space
from search_spaces.space import SearchSpace as SearchSpace
from search_spaces.spaces.custom import NetworkSpace as NetworkSpace

if TYPE_CHECKING:
    from search_spaces.networks.segmentation_net import (
        SegmentationNet as SegmentationNet,
        reparameterize as reparameterize,
        upsample_logits as upsample_logits,
    )

# Names that need torch are imported on first use.
__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "networks.segmentation_net": ("SegmentationNet", "reparameterize", "upsample_logits"),
    },
    eager=("Candidate", "NetworkSpace", "ParamValue", "SPACES", "SearchSpace", "UserError", "get_space", "open_space"),
)
