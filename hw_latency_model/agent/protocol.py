"""Measurement protocol: warm-up, rounds alternating with a reference network, runs until the confidence is reached."""

import math
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .backends.base import Runner
from .errors import JobError, UserMistake
from .files import Json
from .parsers import finite
from .power import PowerMeter, rail_problem
from .statistics import half_drift, median_confidence, percentile
from .watch import Problem, Snapshot, Watch


class Settings(NamedTuple):
    """Settings under ``protocol`` in the job list; ``_s`` in seconds, ``_rel`` relative.

    Attributes:
        confidence_rel: target half width of the 95 % confidence interval of the median, relative to the median.
        max_drift_rel: a measurement is repeated, at most ``max_repeats`` times, if the median of the reference network
            (without one, of the network itself) changes by more between the first and the second half of the rounds.
    """

    warmup_s: float
    min_runs: int
    max_runs: int
    max_s: float
    rounds: int
    confidence_rel: float
    max_drift_rel: float
    max_repeats: int
    energy_s: float
    reference_runs: int
    cool_down_s: float
    build_timeout_s: float


DEFAULTS: Dict[str, float] = {
    "warmup_s": 1.0,
    "min_runs": 50,
    "max_runs": 2000,
    "max_s": 10.0,
    "rounds": 5,
    "confidence_rel": 0.005,
    "max_drift_rel": 0.02,
    "max_repeats": 2,
    "energy_s": 5.0,
    "reference_runs": 5,
    "cool_down_s": 60.0,
    "build_timeout_s": 7200.0,
}


def read_settings(value: Json) -> Settings:
    """Read the settings of a job list; missing ones have their default.

    Raises:
        UserMistake: a name is unknown, or a value is not a number of at least 0.
    """
    unknown = sorted(set(value) - set(DEFAULTS))
    if unknown:
        raise UserMistake("protocol has no setting {!r}; it has {}".format(unknown[0], ", ".join(sorted(DEFAULTS))))
    merged: Dict[str, Any] = dict(DEFAULTS)
    for name, given in value.items():
        number = finite(given)
        if number is None or number < 0:
            raise UserMistake(f"protocol.{name} must be a number of at least 0, not {given!r}")
        merged[name] = int(number) if isinstance(DEFAULTS[name], int) else number
    for name in ("min_runs", "rounds", "reference_runs"):
        merged[name] = max(1, merged[name])
    return Settings(**merged)


class Timing(NamedTuple):
    """One pass of the protocol: latencies in ms, drift and confidence (relative), disturbances, board state."""

    samples_ms: List[float]
    reference_ms: Optional[float]
    drift_rel: float
    confidence_rel: float
    problems: List[Problem]
    before: Snapshot
    after: Snapshot


def time_runner(runner: Runner, reference: Optional[Runner], settings: Settings, watch: Watch) -> Tuple[Timing, int]:
    """Run the protocol, repeating disturbed passes.

    Returns:
        The best timing (the first without a problem, otherwise the least disturbed) and the number of repeats.

    Raises:
        JobError: the backend reported an impossible time.
    """
    attempts: List[Timing] = []
    warm_up(runner, settings)
    for attempt in range(settings.max_repeats + 1):
        if attempt:
            watch.cool_down(attempts[0].before.temp_c, settings.cool_down_s)
            warm_up(runner, settings)
        timing = time_once(runner, reference, settings, watch)
        attempts.append(timing)
        if not timing.problems:
            break
    best = min(
        attempts, key=lambda each: (any(item.throttled for item in each.problems), len(each.problems), each.drift_rel)
    )
    return best, len(attempts) - 1


def warm_up(runner: Runner, settings: Settings) -> None:
    """Warm up for at least ``warmup_s``, then until two blocks agree within 1 %, at most ``3 * warmup_s``."""
    if runner.warms_itself:
        return
    begin = time.monotonic()
    last: Optional[float] = None
    while True:
        now = percentile(credible(runner.samples(3)), 0.5)
        elapsed = time.monotonic() - begin
        steady = last is not None and abs(now - last) <= 0.01 * now
        if elapsed >= settings.warmup_s and (steady or elapsed >= 3 * settings.warmup_s):
            return
        last = now


def credible(samples: List[float]) -> List[float]:
    """Return the samples (ms) after checking that each is positive and finite.

    Raises:
        JobError: a sample is not, or there is none.
    """
    bad = [value for value in samples if not (value > 0 and math.isfinite(value))]
    if bad or not samples:
        raise JobError("the backend reported {} as a time in ms".format(bad[0] if bad else "nothing"), retry=True)
    return samples


def time_once(runner: Runner, reference: Optional[Runner], settings: Settings, watch: Watch) -> Timing:
    """Time one pass: rounds alternating with the reference network, until the confidence or a limit is reached."""
    rounds = min(settings.rounds, runner.rounds_at_most)
    per_round = -(-settings.min_runs // rounds)
    samples: List[float] = []
    references: List[List[float]] = []
    blocks: List[List[float]] = []

    def take_reference() -> None:
        if reference is not None:
            if not reference.warms_itself:
                reference.samples(1)
            references.append(credible(reference.samples(settings.reference_runs)))

    before = watch.begin()
    begin = time.monotonic()
    take_reference()
    while True:
        block = credible(runner.samples(per_round))
        watch.tick()
        samples += block
        blocks.append(block)
        take_reference()
        elapsed = time.monotonic() - begin
        enough = len(samples) >= settings.min_runs and len(blocks) >= rounds
        if enough and median_confidence(samples) <= settings.confidence_rel:
            break
        if enough and len(samples) >= settings.max_runs:
            break
        if elapsed >= settings.max_s and (enough or elapsed >= 3 * settings.max_s) and len(samples) >= 3:
            break
        if len(blocks) >= runner.rounds_at_most and enough:
            break
    after = watch.snapshot()
    steady = references if reference is not None else blocks
    drift = half_drift(steady)
    problems = watch.problems(before, after)
    if drift > settings.max_drift_rel:
        what = "the reference network" if reference is not None else "the network"
        problems.append(Problem(False, f"{what} drifted by {drift:.1%}"))
    reference_ms = percentile([value for block in references for value in block], 0.5) if references else None
    return Timing(samples, reference_ms, drift, median_confidence(samples), problems, before, after)


def measure_energy(runner: Runner, meter: PowerMeter, seconds: float) -> Json:
    """Measure the energy of one inference in mJ, gross and net of idle power; ``power_note`` has the reason if there is none."""
    result: Json = {
        "energy_mj_gross": None,
        "energy_mj_net": None,
        "power_mw": None,
        "idle_power_mw": None,
        "power_rail": None,
        "power_note": meter.note,
    }
    if meter.note or seconds <= 0:
        result["power_note"] = meter.note or "not asked for"
        return result
    time.sleep(min(1.0, seconds / 4))
    idle_mw = meter.mean_over(min(2.0, seconds))
    meter.start()
    loop = runner.loop(seconds)
    meter.stop()
    energy = meter.integral_mj(loop.begin, loop.end)
    problem = rail_problem(meter.mean_rails())
    if problem or energy is None or loop.runs == 0:
        result["power_note"] = problem or "too few power readings"
        return result
    result["energy_mj_gross"] = energy / loop.runs
    result["power_mw"] = energy / (loop.end - loop.begin)
    result["power_rail"] = meter.total
    if idle_mw is None:
        result["power_note"] = "too few power readings while idle"
        return result
    result["idle_power_mw"] = idle_mw
    net = (energy - idle_mw * (loop.end - loop.begin)) / loop.runs
    if net > 0:
        result["energy_mj_net"] = net
    else:
        result["power_note"] = "the loop takes no more power than the idle board"
    return result
