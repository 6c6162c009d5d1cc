"""Pretrained encoder weights from timm's hub or files, sliced for encoders of smaller width."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
import torch_pruning
from torch import Tensor, nn

from search_spaces._common.errors import UserError
from search_spaces._common.untrusted import MOST_WEIGHTS_MB, check_size, load_torch
from search_spaces.networks.backbones import FAMILIES, FamilySpec
from search_spaces.networks.encoders import build_encoder
from search_spaces.networks.segmentation_net import SegmentationNet
from search_spaces.pruning.groups import coupled_groups
from search_spaces.pruning.scores import channel_scores

HUB = "hub"
NONE = "none"
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


def load_pretrained(
    net: SegmentationNet,
    family: FamilySpec,
    width: float,
    indices: tuple[int, ...],
    source: str,
    *,
    depth: float = 1.0,
) -> str:
    """Replace the random weights of ``net``'s encoder by pretrained ones; returns a description of them.

    An encoder of width 1 gets them unchanged; a thinner one gets the filters with the largest L1 norm of each layer, with the
    corresponding inputs. One of another depth gets the first blocks of each stage; further blocks stay random, as does the
    decoder.

    Args:
        net: unpruned.
        family, width, indices, depth: arguments of its encoder, see ``networks.encoders.build_encoder``.
        source: ``hub`` (timm's), a file with a state dict (with timm's or torchvision's names), or a folder of such files,
            in which the one named after the family's timm variant, or else the first that fits, is used.

    Raises:
        UserError: the hub cannot be reached, or a file is missing, damaged, or fits no encoder of this space.
    """
    if source == NONE:
        return "random"
    if source == HUB:
        state, said = _from_hub(family), f"timm {family.variant}"
    else:
        found = _find(Path(source), family, indices)
        if found is None:
            return f"random (no weights of {family.name} in {source})"
        path, state = found
        said = path.name
    donor = _donor(family, indices)
    values = _fit(donor.state_dict(), state)
    if values is None:
        raise UserError(
            f"the weights {said} do not fit the encoder {family.name} ({family.variant}). Give weights of that network, or none."
        )
    if depth != 1.0:
        donor = _donor(family, indices, depth=depth)
        values = _shared(donor.state_dict(), values)
        said += f", the first blocks of each stage for depth {depth:g}"
    donor.load_state_dict(values)
    if width == 1.0:
        net.encoder.load_state_dict(donor.state_dict())
        return said
    sliced = slice_encoder(donor, net.encoder)
    if sliced is None:
        return f"random ({family.name} ×{width} is not a thinner copy of the network that {said} belongs to)"
    net.encoder.load_state_dict(sliced)
    return f"{said}, the strongest filters for width {width}"


def check_source(source: str) -> None:
    """Raise UserError for a source that is neither a keyword nor a readable file or folder of weights."""
    if source in (HUB, NONE):
        return
    path = Path(source)
    if not path.exists():
        raise UserError(
            f"weights must be {NONE}, {HUB}, or a file or folder that is there, but {source} is not. Correct the path."
        )
    if path.is_file():
        read_state_dict(path)
    elif not _files(path):
        raise UserError(f"the weights folder {source} holds no file with one of the endings {', '.join(_SUFFIXES)}.")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file, in order, without executing code in it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            check_size(path, "a file of weights", MOST_WEIGHTS_MB)
            return dict(load_file(path))
        content = load_torch(path)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise UserError(
            f"{path} cannot be read as weights ({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "It must be a plain state dict that torch.load reads with weights_only=True; save it again as one."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise UserError(f"{path} holds no tensors. It must be a state dict.")
    return tensors


def slice_encoder(wide: nn.Module, thin: nn.Module) -> dict[str, Tensor] | None:
    """Make a state dict for ``thin`` from the most important channels of ``wide``; None if their structures differ.

    ``wide`` is changed. Coupled channels (by additions, depthwise convolutions) are selected together, by the same scores as
    in pruning.
    """
    targets = dict(thin.named_modules())
    modules = dict(wide.named_modules())
    wide.eval()
    graph = torch_pruning.DependencyGraph().build_dependency(
        wide, example_inputs=torch.zeros(1, 3, 64, 64), verbose=False
    )
    removals: list[tuple[nn.Module, list[int], int]] = []
    for group in coupled_groups(wide, graph):
        root, target = modules[group.root], targets.get(group.root)
        if not isinstance(target, nn.Conv2d) or target.out_channels > group.channels:
            return None
        weakest = torch.argsort(channel_scores(modules, group), stable=True)[: group.channels - target.out_channels]
        removals.append((root, sorted(weakest.tolist()), target.out_channels))
    for root, removed, wanted in removals:
        if removed:
            graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, removed).prune()
        if root.out_channels != wanted:
            return None
    state = wide.state_dict()
    expected = thin.state_dict()
    if state.keys() != expected.keys() or any(state[key].shape != expected[key].shape for key in state):
        return None
    return dict(state)


def _from_hub(family: FamilySpec) -> dict[str, Tensor]:
    try:
        return dict(timm.create_model(family.variant, pretrained=True).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"timm's weights of {family.variant} cannot be had ({str(error).splitlines()[0] if str(error) else type(error).__name__}). "
            "Connect to the hub, or download them once and set training.weights to the file or folder."
        ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)


def _donor(family: FamilySpec, indices: tuple[int, ...], *, depth: float = 1.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)  # for blocks without given weights
        encoder: nn.Module = build_encoder(family, 1.0, indices, depth=depth)
    return encoder


def _shared(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``expected`` with the values of ``given`` for equal names and shapes."""
    return {
        name: given[name] if name in given and given[name].shape == value.shape else value
        for name, value in expected.items()
    }


def _find(source: Path, family: FamilySpec, indices: tuple[int, ...]) -> tuple[Path, dict[str, Tensor]] | None:
    """Find the weights of ``family``: a file must fit some family; the files of a folder are tried, the family's namesake first."""
    check_source(str(source))
    expected = _donor(family, indices).state_dict()
    files = [source] if source.is_file() else _files(source)
    for path in sorted(files, key=lambda path: not path.stem.startswith(family.variant)):
        state = read_state_dict(path)
        if _fit(expected, state) is not None:
            return path, state
    if source.is_file() and all(
        _fit(_donor(other, indices).state_dict(), state) is None for other in FAMILIES.values()
    ):
        raise UserError(
            f"the weights {source} fit no encoder of this search space. Give an ImageNet state dict of one of them."
        )
    return None


def _fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Match ``given`` to the names of ``expected``: by name, or else in order, which implementations of one network share.

    Tensors after the encoder (the classifier) are ignored. None if the shapes do not match."""
    if all(name in given and given[name].shape == value.shape for name, value in expected.items()):
        return {name: given[name] for name in expected}
    wanted = [(name, value) for name, value in expected.items() if not name.endswith("num_batches_tracked")]
    offered = [value for name, value in given.items() if not name.endswith("num_batches_tracked")]
    if len(offered) < len(wanted):
        return None
    values = dict(expected)
    for (name, value), other in zip(wanted, offered, strict=False):
        if value.shape != other.shape:
            return None
        values[name] = other
    return values
