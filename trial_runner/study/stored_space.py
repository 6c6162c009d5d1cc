"""A search space that was edited between launches: its dimensions under names and distributions that Optuna can store.

Optuna stores a distribution with each parameter and refuses another one under the same name: other choices, or a range in place of
choices. A dimension that changed is therefore stored under a name of its own (``family@2``), and samplers see every trial
under the dimension's name and present distribution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial, TrialState

from objectives.optuna_private import StudyStorage, trial_id
from objectives.trial_record import Outcome, TrialRecord
from search_spaces import SearchSpace
from search_spaces._common.errors import UserError
from search_spaces.candidate import TRAINING_PREFIX, Candidate, ParamValue
from search_spaces.dimensions import Categorical, Dimension, Suggester

_FIXED = "fixed_params"
_SHOWN_TRIALS = 5
_KEYS = {
    "family": "families",
    "decoder": "decoders",
    "width": "widths",
    "resolution": "resolutions_px",
    "prune_ratio": "prune_ratios",
    "depth": "depths",
    "output_stride": "output_strides",
    "upsampling": "upsamplings",
    "kernel": "kernels",
    "expansion": "expansions",
    "activation": "activations",
    "precision": "precisions",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "squeeze_excite": "squeeze_excite",
}
"""Keys of the section ``space`` by dimension; a stage's dimension is ``stageN_`` and one of these."""
_RESULTS = (Outcome.FINISHED, Outcome.STOPPED, Outcome.DUPLICATE, None)
"""Outcomes of trials that a changed space must still hold; None: requeued, or running."""


class StoredSpace:
    """A search space as a study stores it.

    Attributes:
        names: by dimension, the parameter that new trials store it under.
        distributions: by dimension, the present distribution.
    """

    def __init__(self, space: SearchSpace, trials: Sequence[FrozenTrial]) -> None:
        self._space = space
        self._axes = {axis.name: axis for axis in (*space.dimensions, *space.added_dimensions)}
        self.distributions = distributions_of(space)
        self._stored: dict[str, list[str]] = {name: [] for name in self._axes}
        self.names: dict[str, str] = {}
        found: dict[str, BaseDistribution] = {}
        for trial in trials:
            found.update(trial.distributions)
        for name, distribution in self.distributions.items():
            known = [name]
            while (later := f"{name}@{len(known) + 1}") in found:
                known.append(later)
            fits = [stored for stored in known if stored not in found or _compatible(found[stored], distribution)]
            self.names[name] = fits[0] if fits else later
            self._stored[name] = [*known, self.names[name]]
        self._dimension = {stored: name for name, names in self._stored.items() for stored in names}

    def require_resumable(self, records: Iterable[TrialRecord]) -> None:
        """Refuse a space that does not hold the trials so far.

        Added choices, another order, choices that became a range around them and other ends of a range are no obstacle.

        Raises:
            UserError: names the key, the trials affected and the alternative.
        """
        counted = [record for record in records if record.candidate and record.outcome in _RESULTS]
        lacking: dict[str, list[int]] = {}
        for record in counted:
            for name in self._axes.keys() - record.params.keys():
                lacking.setdefault(name, []).append(record.number)
            for name in record.params.keys() - self._axes.keys():
                lacking.setdefault(name, []).append(record.number)
        for name, numbers in lacking.items():
            change = "is new" if name in self._axes else "was taken out"
            raise _refusal(
                f"{_key(name)} {change} in this study: {_trials(numbers)} {_have(numbers, name in self._axes)} it"
            )
        for name, axis in self._axes.items():
            used: dict[ParamValue, list[int]] = {}
            for record in counted:
                value = record.params[name]
                if not _holds(axis, value) and not self._other_ends(name):
                    used.setdefault(value, []).append(record.number)
            for value, numbers in used.items():
                raise _refusal(
                    f"{_key(name)} was edited and does not offer {value} any more, which {_trials(numbers)} used"
                )

    def _other_ends(self, name: str) -> bool:
        """Return True for a range whose ends alone may have changed: Optuna allows that."""
        return not isinstance(self._axes[name], Categorical) and self.names[name] == name

    def dimension_of(self, stored: str) -> str:
        """Return the dimension of a stored parameter; the name itself for one of no dimension."""
        return self._dimension.get(stored, stored)

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """Suggest a candidate. Raises ValueError for a trial that was enqueued with values that are not of the space."""
        return self._space.suggest(_Renamed(trial, self.names))

    def params(self, candidate: Candidate) -> dict[str, ParamValue]:
        """Return a candidate's params under the names of their parameters, to enqueue a trial with."""
        return {self.names[name]: value for name, value in candidate.params.items()}

    def shown(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Return trials as samplers see them: params by dimension, with its present distribution; without those outside it."""
        return [seen for trial in trials if (seen := self._seen(trial)) is not None]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial | None:
        params, distributions = {}, {}
        for stored, value in trial.params.items():
            name, distribution = self._dimension.get(stored), trial.distributions[stored]
            if name is not None and (name != stored or self.distributions[name] != distribution):
                if not _holds(self._axes[name], value):
                    return None
                value, distribution = self._axes[name].canonical(value), self.distributions[name]
            params[name or stored], distributions[name or stored] = value, distribution
        if params == trial.params and distributions == trial.distributions:
            return trial
        seen = copy.copy(trial)
        seen.params, seen.distributions = params, distributions
        return seen

    def rename_enqueued(self, study: optuna.Study) -> None:
        """Give waiting trials, which were enqueued under the dimensions' or earlier names, the present names."""
        if all(name == stored for name, stored in self.names.items()):
            return
        storage = StudyStorage(study)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            fixed = trial.system_attrs.get(_FIXED, {})
            renamed = {
                self.names.get(self._dimension.get(stored, ""), stored): value for stored, value in fixed.items()
            }
            if renamed != fixed:
                storage.set_trial_system_attr(trial_id(trial), _FIXED, renamed)


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """Return Optuna's distributions of a space's dimensions."""
    recorder = _Recorder()
    for dimension in (*space.dimensions, *space.added_dimensions):
        dimension.suggest(recorder)
    return recorder.distributions


class _Recorder:
    """Records the distributions that are suggested from; returns their first values."""

    def __init__(self) -> None:
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[0]

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log, step=step)
        return low

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        self.distributions[name] = IntDistribution(low, high, log=log, step=step)
        return low


def _key(dimension: str) -> str:
    """Return the YAML key of a dimension."""
    if dimension.startswith(TRAINING_PREFIX):
        return f"space.{dimension}"
    stage, _, rest = dimension.partition("_")
    name = rest if stage.startswith("stage") and rest else dimension
    return f"space.{_KEYS[name]}" if name in _KEYS else f"the dimension {dimension} of the space"


def _trials(numbers: Sequence[int]) -> str:
    shown = [str(number) for number in numbers[:_SHOWN_TRIALS]]
    more = len(numbers) - len(shown)
    if more:
        return f"trials {', '.join(shown)} and {more} more"
    return f"trial {shown[0]}" if len(shown) == 1 else f"trials {', '.join(shown[:-1])} and {shown[-1]}"


def _have(numbers: Sequence[int], new: bool) -> str:
    verb = "has" if len(numbers) == 1 else "have"
    return f"{verb} no value of" if new else f"{verb} a value of"


def _refusal(cause: str) -> UserError:
    return UserError(
        f"{cause}. Put the old value back, or start a new study from this one's results: another study.name, another output_dir and "
        "search.warm_start with this study's name."
    )


class _Renamed:
    """A trial that suggests each dimension under the name of its parameter."""

    def __init__(self, trial: Suggester, names: Mapping[str, str]) -> None:
        self._trial, self._names = trial, names

    def suggest_categorical(self, name: str, choices: Sequence[Any], /) -> Any:
        return self._trial.suggest_categorical(self._names[name], choices)

    def suggest_float(
        self, name: str, low: float, high: float, /, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._trial.suggest_float(self._names[name], low, high, step=step, log=log)

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int = 1, log: bool = False) -> int:
        return self._trial.suggest_int(self._names[name], low, high, step=step, log=log)


def _compatible(stored: BaseDistribution, wanted: BaseDistribution) -> bool:
    try:
        check_distribution_compatibility(stored, wanted)
    except ValueError:
        return False
    return True


def _holds(axis: Dimension, value: ParamValue) -> bool:
    try:
        axis.check(value)
    except ValueError:
        return False
    return True
