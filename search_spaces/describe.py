"""Short descriptions of a candidate's network, for any search space."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.candidate import PRECISION

STAGE_PREFIX = "stage"
_MOST_STAGES = 9
_OTHERS = frozenset(
    {"resolution", "prune_ratio", "learning_rate", "weight_decay", PRECISION}
    | {"width", "depth", "activation", "output_stride", "decoder", "decoder_width", "upsampling"}
)


def network_name(params: Mapping[str, object]) -> str:
    """Describe the architecture without image size and pruning: ``mobilenetv2 ×0.5 + fpn``."""
    parts = [str(params.get("family") or stage_words(params) or _custom_words(params) or "network")]
    if "width" in params:
        parts.append(f"×{_number(params['width'])}")
    if "depth" in params:
        parts.append(f"depth ×{_number(params['depth'])}")
    if "activation" in params:
        parts.append(str(params["activation"]))
    if "output_stride" in params:
        parts.append(f"stride {params['output_stride']}")
    if "decoder" in params:
        parts.append(f"+ {params['decoder']}")
    if "decoder_width" in params:
        parts.append(f"×{_number(params['decoder_width'])}")
    if "upsampling" in params:
        parts.append(str(params["upsampling"]))
    return " ".join(parts)


def architecture_words(params: Mapping[str, object]) -> str:
    """Describe the architecture with image size and pruning: ``mobilenetv2 ×0.5 + fpn · 128x160 · pruned 25%``."""
    parts = [network_name(params), *([str(params["resolution"])] if "resolution" in params else [])]
    pruned = params.get("prune_ratio")
    return " · ".join([*parts, *([f"pruned {pruned:.0%}"] if isinstance(pruned, float) and pruned else [])])


def network_words(params: Mapping[str, object]) -> str:
    """Describe architecture and, if searched, precision: ``mobilenetv2 ×0.5 + fpn · 128x160 · pruned 25% · int8``."""
    return " · ".join([architecture_words(params), *([str(params[PRECISION])] if PRECISION in params else [])])


def stage_words(params: Mapping[str, object]) -> str:
    """Describe the stages of a ``mobile_stages`` network; empty for other spaces.

    ``k5e6d3×0.75se`` is kernel 5, expansion 6, depth 3, width 0.75, with squeeze-and-excitation."""
    numbers = range(1, _MOST_STAGES + 1)
    return " ".join(_stage(params, number) for number in numbers if f"{STAGE_PREFIX}{number}_kernel" in params)


def _stage(params: Mapping[str, object], number: int) -> str:
    kernel, expansion, depth, width, gated = (
        params[f"{STAGE_PREFIX}{number}_{key}"] for key in ("kernel", "expansion", "depth", "width", "se")
    )
    return f"k{kernel}e{expansion}d{depth}×{_number(width)}{'se' if gated else ''}"


def _custom_words(params: Mapping[str, object]) -> str:
    """The dimensions of a space of the user's own: ``channels 16 depth 3``."""
    own = {name: value for name, value in params.items() if name not in _OTHERS and not name.startswith("training.")}
    return " ".join(f"{name} {_number(value)}" for name, value in own.items())


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
