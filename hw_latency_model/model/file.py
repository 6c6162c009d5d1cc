"""JSON file of a latency model: versioned, written atomically, rejected if damaged or of another machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hw_latency_model.model.bounds import PhysicalBounds
from hw_latency_model.model.conformal import Margins, Scores
from hw_latency_model.model.gaussian_process import GaussianProcess
from hw_latency_model.model.prior import prior_from_dict
from hw_latency_model.model.state import Fit, FitQuality, ModelState
from hw_latency_model.types import fingerprint_id
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_json
from search_spaces._common.untrusted import parse_json, read_bounded

FORMAT = "paretoseg latency model"
VERSION = 2
_MOST_MB = 512
READABLE = (1, 2)


def save_state(state: ModelState, path: Path) -> None:
    """Write the state as JSON, with exact numbers.

    Raises:
        UserError: the file cannot be written.
    """
    write_json(path, _to_json(state))


def identity(state: ModelState) -> str:
    """Hash of everything that the predictions follow from, and of the release that makes them."""
    content = _to_json(state)
    for name in ("fitted_at", "provenance", "quality"):
        del content[name]
    text = json.dumps({**content, "release": version("paretoseg")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _to_json(state: ModelState) -> dict[str, Any]:
    fit = state.fit_result
    return {
        "format": FORMAT,
        "version": VERSION,
        "device": state.device,
        "fingerprint": dict(state.fingerprint),
        "fitted_at": state.fitted_at,
        "level": state.level,
        "precision": state.precision,
        "target": state.target,
        "calibrated": state.calibrated,
        "provenance": state.provenance,
        "margins": state.margins.to_dict(),
        "quality": asdict(state.quality),
        "prior_type": fit.prior.prior_type,
        "prior": fit.prior.to_dict(),
        "correction": fit.correction.to_dict(),
        "size_range": fit.size_range.tolist(),
        "offset": fit.offset,
        "scores": None if state.scores is None else state.scores.to_dict(),
        **_later_facts(state),
    }


def _later_facts(state: ModelState) -> dict[str, Any]:
    """Facts that models of earlier releases do not have, where there are any."""
    facts: dict[str, Any] = {}
    if state.group_margins:
        facts["group_margins"] = {name: margins.to_dict() for name, margins in state.group_margins.items()}
    if state.bounds is not None:
        facts["bounds"] = state.bounds.to_dict()
    return facts


def load_state(path: Path, fingerprint: Mapping[str, Any] | None) -> ModelState:
    """Read a state; see ``LatencyModel.load``."""
    try:
        value = parse_json(read_bounded(path, "a latency model", _MOST_MB))
    except FileNotFoundError as error:
        raise UserError(
            f"there is no latency model at {path}; run `paretoseg calibrate --device local-cpu` to measure this "
            "machine, or give the device's name."
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _damaged(path, "it is not a latency model")
    if value.get("version") not in READABLE:
        raise UserError(
            f"the latency model {path} has version {value.get('version')}, this paretoseg reads {VERSION}; "
            f"run `paretoseg calibrate --device {value.get('device')}` again."
        )
    try:
        state = _from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if fingerprint is not None and fingerprint_id(fingerprint) != state.fingerprint_id:
        difference = _difference(state.fingerprint, fingerprint)
        raise UserError(
            f"the latency model {path} was fitted on another machine or set-up ({difference}); "
            f"run `paretoseg calibrate --device {state.device}` on this one."
        )
    return state


def _from_json(value: Mapping[str, Any]) -> ModelState:
    fit = Fit(
        prior_from_dict(str(value.get("prior_type", "roofline")), value["prior"]),
        GaussianProcess.from_dict(value["correction"]),
        np.array(value["size_range"], dtype=np.float64).reshape(2, -1),
        float(value.get("offset", 0.0)),
    )
    # Version 1 had one margin, whatever the distance.
    margins = value["margins"] if "margins" in value else {**Margins(0.0, 0.0).to_dict(), "near": value["margin"]}
    scores, bounds = value.get("scores"), value.get("bounds")
    return ModelState(
        device=str(value["device"]),
        fingerprint=dict(value["fingerprint"]),
        fit_result=fit,
        margins=Margins.from_dict(margins),
        quality=FitQuality(**value["quality"]),
        fitted_at=str(value["fitted_at"]),
        level=float(value["level"]),
        precision=str(value["precision"]),
        target=str(value.get("target", "latency_ms")),
        calibrated=bool(value.get("calibrated", True)),
        provenance=str(value.get("provenance", "")),
        scores=None if scores is None else Scores.from_dict(scores),
        group_margins={str(name): Margins.from_dict(item) for name, item in value.get("group_margins", {}).items()},
        bounds=None if bounds is None else PhysicalBounds.from_dict(bounds),
    )


def _damaged(path: Path, cause: str) -> UserError:
    return UserError(
        f"the latency model {path} is damaged ({cause}); delete it and run `paretoseg calibrate` for its device again."
    )


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    return ", ".join(f"{key}: {ours.get(key)!r} there, {theirs.get(key)!r} here" for key in keys)
