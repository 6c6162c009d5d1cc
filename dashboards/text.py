"""Text of trials and numbers: common rounding and naming for figures, tables, notes and the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from objectives.objective import LATENCY, MIOU, Objective
from objectives.pareto import ParetoFront
from objectives.trial_record import Outcome, State, TrialRecord
from search_spaces.describe import STAGE_PREFIX, network_words, stage_words

# Dimensions that the description of the network includes, or that a report shows elsewhere.
_TOLD = (
    "family",
    "width",
    "depth",
    "activation",
    "output_stride",
    "decoder",
    "decoder_width",
    "upsampling",
    "resolution",
    "prune_ratio",
    "precision",
    "learning_rate",
    "weight_decay",
)
OUTCOMES = {
    Outcome.FINISHED: "trained to the end",
    Outcome.STOPPED: "stopped early",
    Outcome.INFEASIBLE: "refused untrained",
    Outcome.FAILED: "failed",
    Outcome.DUPLICATE: "repeated, result reused",
}
RUNNING = "running"


def milliseconds(value: float | None) -> str:
    """Format a latency without its unit, with about three digits: ``0.482``, ``4.82``, ``48.2``; ``–`` for None."""
    if value is None:
        return "–"
    if value < 1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 20 else f"{value:.1f}"


def interval(record: TrialRecord) -> str:
    """Format ``[low, high]`` of the predicted latency in ms; empty without one."""
    if record.estimate is None:
        return ""
    return f"[{milliseconds(record.estimate.low_ms)}, {milliseconds(record.estimate.high_ms)}]"


def miou(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def count(value: int | None) -> str:
    """Format a large count with its factor: ``812``, ``45.1 k``, ``68.4 M``, ``1.23 G``."""
    if value is None:
        return "–"
    for limit, factor in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {factor}"
    return str(value)


def seconds(value: float | None) -> str:
    """Format a duration: ``8.2 s``, ``4 min 10 s``, ``3 h 05 min``."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def network(record: TrialRecord) -> str:
    """Describe the candidate's network in one line: ``mobilenetv2 ×0.5 + lraspp · 96x128 · pruned 25%``."""
    params = record.params
    if not params:
        return "unknown candidate"
    of_stages = bool(stage_words(params))
    told = {*_TOLD, *(name for name in params if of_stages and name.startswith(STAGE_PREFIX))}
    rest = [f"{name} {value_text(value)}" for name, value in params.items() if name not in told]
    return " · ".join([network_words(params), *rest])


def outcome(record: TrialRecord) -> str:
    """Outcome of a trial, in words."""
    if record.outcome is None:
        return RUNNING if record.state == State.RUNNING else record.state.lower()
    origin = "" if record.parent_trial is None else f", from trial {record.parent_trial} on"
    return OUTCOMES[record.outcome] + origin


def any_quantized(records: Sequence[TrialRecord]) -> bool:
    """Return True if a network runs in another precision than float32, so that precisions need to be shown."""
    return any(record.precision not in (None, "fp32") for record in records)


def precisions(records: Sequence[TrialRecord]) -> str:
    """List the precisions of the networks on the device: ``fp32``, ``fp32 and int8``; empty if no record has one."""
    return " and ".join(sorted({record.precision for record in records if record.precision}))


def inside_interval(record: TrialRecord) -> bool | None:
    """Return True if the measured latency lies in the predicted interval; None if one of them is missing."""
    judged = record.judged_estimate
    if record.measured_ms is None or judged is None:
        return None
    return judged.low_ms <= record.measured_ms <= judged.high_ms


def relative_error(record: TrialRecord) -> float | None:
    """Compute (predicted - measured) / measured latency: positive for an overestimate."""
    judged = record.judged_estimate
    if record.measured_ms is None or judged is None or record.measured_ms <= 0:
        return None
    return (judged.latency_ms - record.measured_ms) / record.measured_ms


def over_budget(record: TrialRecord, objectives: Sequence[Objective], latency_budget_ms: float | None) -> bool:
    """Return True if the record violates the latency budget or an objective's, by its measurement if it has one."""
    latency = LATENCY.with_budget(latency_budget_ms)
    return not all(item.holds(record) for item in (latency, *objectives))


def within_budget(front: ParetoFront, latency_budget_ms: float | None) -> str:
    """Add to the size of a front the number of members within the budget, which `paretoseg front` lists, if it is smaller."""
    within = sum(not over_budget(record, front.objectives, latency_budget_ms) for record in front.records)
    return "" if within == len(front) else f", {within} of them within the budget"


def is_default(objectives: Sequence[Objective]) -> bool:
    """Return True for mIoU and latency, which have their own figures."""
    return [objective.name for objective in objectives] == [MIOU.name, LATENCY.name]


def volume_unit(objectives: Sequence[Objective]) -> str:
    """Unit of a hypervolume: ``mIoU × ms``."""
    return " × ".join(objective.unit or objective.label for objective in objectives)


def volume_name(objectives: Sequence[Objective]) -> str:
    """Short name of a hypervolume: ``hypervolume, mIoU × ms``, or with the number of objectives."""
    if len(objectives) > 4:
        return f"hypervolume of {len(objectives)} objectives"
    return f"hypervolume, {volume_unit(objectives)}"


def corner(objectives: Sequence[Objective], reference_point: Sequence[float]) -> str:
    """Format a reference point: ``mIoU 0, 25 ms``."""
    pairs = zip(objectives, reference_point, strict=True)
    return ", ".join(f"{value:g} {item.unit}" if item.unit else f"{item.label} {value:g}" for item, value in pairs)


def by_outcome(records: Sequence[TrialRecord]) -> Counter[str]:
    """Count trials by outcome; those without one count as running."""
    return Counter(record.outcome or RUNNING for record in records)


def chosen(facts: Mapping[str, float | str]) -> str:
    """Describe the choice of a network for deployment, from `TrialRecord.chosen`."""
    place = f" on {facts['target']}" if "target" in facts else ""
    return f"for {facts['budget_ms']:g} ms{place}, kept with probability {facts['probability']:.2f}"
