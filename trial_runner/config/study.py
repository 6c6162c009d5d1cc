"""One YAML file describes one study; this is its schema, with units in the keys. `config.load` reads it."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from exports.profiles import PROFILES
from objectives.objective import LATENCY, OBJECTIVES, get_objective, is_custom
from search_spaces._common.errors import UserError
from search_spaces._common.references import is_reference
from search_spaces.candidate import Candidate, Precision
from search_spaces.spaces.config import LogRange, Positive, Section, Side, SpaceSection
from trial_runner.config.cluster import ClusterSection
from trial_runner.config.targets import TargetSection
from trial_runner.config.training import (
    AdmmSection,
    DistillationSection,
    LossSection,
    PruningSection,
    QuantizationSection,
    TrainingSection,
)
from trial_runner.config.training_search_space import first_misfit, read_choice, stored_key

__all__ = [
    "AdmmSection",
    "DistillationSection",
    "LogRange",
    "LossSection",
    "PruningSection",
    "QuantizationSection",
    "SpaceSection",
    "StudyConfig",
    "TrainingSection",
]


class StudySection(Section):
    """Name, storage and output folder of the study. Relative paths, also in a sqlite URL, are relative to the YAML's folder.
    ``python_path``: the folder that ``module:name`` references are imported from; the YAML's own by default. ``tracking``: tools
    that each ended trial is copied to, as a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    storage: str
    output_dir: Path
    seed: int = Field(default=0, ge=0, lt=2**32)
    python_path: Path | None = None
    tracking: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(default_factory=list)

    omitted_at_default = frozenset({"python_path", "tracking"})


FOLDER_KEYS = (
    "colours",
    "ignore_colours",
    "label_values",
    "first_id",
    "ignore_ids",
    "image_suffix",
    "label_suffix",
    "image_folder",
    "label_folder",
    "image_max",
)
DATA_KINDS = ("synthetic", "camvid", "lpcvc", "cityscapes", "ade20k", "voc", "rellis3d", "folder")


Images = Annotated[int, Field(gt=0, le=1_000_000)]
Channel = Annotated[int, Field(ge=0, le=255)]
LabelValue = Annotated[int, Field(ge=0, le=65535)]
Colour = tuple[Channel, Channel, Channel] | Annotated[str, Field(pattern=r"^#?[0-9a-fA-F]{6}$")]
"""``[red, green, blue]``, or ``"#rrggbb"``."""


class DataSection(Section):
    """The data set. Numbers of images and sizes apply to the synthetic scenes; ``val_fraction`` is the share of training images held
    out where a data set of kind lpcvc or folder has no validation split. ``kind``: one of `DATA_KINDS`, or ``module:name`` of a
    custom opener, which is given ``options``. `FOLDER_KEYS` are arguments of `objectives.data.folder.open_folder`."""

    omitted_at_default = frozenset({"options", "missing_classes", *FOLDER_KEYS})

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)
    root: Path | None = None
    train_images: Images = 240
    val_images: Images = 60
    image_height_px: Side = 96
    image_width_px: Side = 128
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    colours: dict[str, Colour] | None = None
    ignore_colours: list[Colour] = Field(default_factory=list)
    label_values: dict[str, LabelValue | Annotated[list[LabelValue], Field(min_length=1)]] | None = None
    first_id: LabelValue = 0
    ignore_ids: list[LabelValue] = Field(default_factory=list)
    image_suffix: str | None = None
    label_suffix: str | None = None
    image_folder: str = Field(default="images", min_length=1)
    label_folder: str = Field(default="labels", min_length=1)
    image_max: Positive | None = None
    missing_classes: Literal["refuse", "allow"] = "refuse"

    @property
    def folder_options(self) -> dict[str, Any]:
        """Arguments of `open_folder` that the section sets."""
        fields = type(self).model_fields
        values = {key: getattr(self, key) for key in FOLDER_KEYS}
        return {key: v for key, v in values.items() if v != fields[key].get_default(call_default_factory=True)}

    @property
    def custom(self) -> bool:
        """True for a custom data set, named by a reference."""
        return is_reference(self.kind)

    @property
    def file_options(self) -> dict[str, Any]:
        """Arguments of a built-in opener that the section sets."""
        return self.folder_options | ({} if self.val_fraction is None else {"val_fraction": self.val_fraction})

    @model_validator(mode="after")
    def _known_kind(self) -> DataSection:
        if self.kind not in DATA_KINDS and not self.custom:
            near = difflib.get_close_matches(self.kind, DATA_KINDS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"data.kind must be one of {', '.join(DATA_KINDS)}, or module:name of your own; {hint}correct it"
            )
        if self.options and not self.custom:
            raise ValueError(
                f"data.options is for a data set of your own, module:name; {self.kind} takes none: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _folder_keys_are_of_a_folder(self) -> DataSection:
        if self.kind != "folder" and self.folder_options:
            key = next(iter(self.folder_options))
            raise ValueError(f"data.{key} is for the kind folder; {self.kind} has a layout of its own: leave it out")
        return self

    @model_validator(mode="after")
    def _needs_root(self) -> DataSection:
        if self.val_fraction is not None and self.kind not in ("lpcvc", "folder"):
            raise ValueError(
                f"data.val_fraction is for the kinds lpcvc and folder; {self.kind} has a split of its own: leave it out"
            )
        if self.kind != "synthetic" and not self.custom and self.root is None:
            raise ValueError(f"data.kind {self.kind} reads a folder: set data.root to where it lies")
        return self


class DeviceSection(Section):
    """Target device and its latency model; ``latency_models``: those of the other precisions of ``space.precisions``.
    ``board``: the DEVICE.yaml with the connection to the device, where it is not this machine."""

    name: str = "local-cpu"
    latency_model: Path
    latency_models: dict[Precision, Path] = Field(default_factory=dict)
    precision: Precision = "fp32"
    latency_budget_ms: float = Field(gt=0)
    measure_front: bool = True
    board: Path | None = None

    @model_validator(mode="after")
    def _runs_there(self) -> DeviceSection:
        offered = PROFILES[self.name].precisions if self.name in PROFILES else (self.precision,)
        if self.precision not in offered:
            raise ValueError(
                f"{self.name} does not run {self.precision}: set device.precision to {' or '.join(offered)}"
            )
        return self

    @property
    def predictor(self) -> str | None:
        """Reference to a custom latency function, where ``latency_model`` is not a path."""
        return str(self.latency_model) if is_reference(str(self.latency_model)) else None

    def model_path(self, precision: Precision) -> Path:
        """Path of the latency model of a precision. For another precision than ``precision``, unless it is given, the folder beside
        ``latency_model``'s whose name ends in the precision."""
        if precision == self.precision or (self.predictor and precision not in self.latency_models):
            return self.latency_model
        folder = self.latency_model.parent
        beside = folder.parent / f"{folder.name}-{precision}" / self.latency_model.name
        return self.latency_models.get(precision, beside)


class ObjectiveSection(Section):
    """One objective: a name, or a name with a budget (the worst acceptable value). The budget of latency is the device's."""

    omitted_at_default = frozenset({"direction"})

    name: str
    budget: float | None = None
    direction: Literal["maximize", "minimize"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> ObjectiveSection:
        try:
            objective = get_objective(self.name, direction=self.direction)
        except UserError as error:
            raise ValueError(str(error).rstrip(".")) from error
        if self.direction not in (None, objective.direction):
            raise ValueError(f"{self.name} is to {objective.direction}: leave its direction out")
        if self.name == LATENCY.name and self.budget is not None:
            raise ValueError("the budget of latency_ms is device.latency_budget_ms: leave it out here")
        return self


Corruption = Literal[
    "gaussian_noise", "shot_noise", "defocus_blur", "motion_blur", "fog", "brightness", "contrast", "jpeg"
]


class RobustnessSection(Section):
    """Corruptions that ``robust_miou`` averages over, each at one severity, on ``images`` validation images."""

    corruptions: list[Corruption] = Field(
        default_factory=lambda: list[Corruption](("gaussian_noise", "motion_blur", "fog", "jpeg")), min_length=1
    )
    severity: int = Field(default=2, ge=1, le=5)
    images: Positive = 100


class EarlyStoppingSection(Section):
    """Multi-objective ASHA: a trial continues at a rung (in epochs) if it is among the best ``1 / reduction_factor`` of those that
    reached it, by non-dominated rank of (current mIoU, latency). No trial is stopped at a rung before ``min_trials`` reached it.
    ``rungs_time_shares``, instead of ``rungs_epochs``: a trial reaches a rung once its training has taken this share of the time budget.
    ``promote``: a stopped trial is resumed once the rule would let it continue."""

    rungs_epochs: list[Positive] = Field(default_factory=list)
    rungs_time_shares: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=list)
    reduction_factor: float = Field(default=3.0, gt=1)
    min_trials: Positive = 4
    promote: bool = False

    omitted_at_default = frozenset({"promote", "rungs_time_shares"})

    @model_validator(mode="after")
    def _rungs_of_one_kind(self) -> EarlyStoppingSection:
        if self.rungs_epochs and self.rungs_time_shares:
            raise ValueError(
                f"rungs_epochs {self.rungs_epochs} and rungs_time_shares {self.rungs_time_shares} exclude each other: give one of them"
            )
        return self


class FinalTrainingSection(Section):
    """Fine-tuning of the front: after the search its best ``members`` are trained further, each for ``epochs`` or what the time
    allows. They are separate trials, not counted in ``search.trials``. ``time_share`` of a time budget is reserved for them;
    ``auto`` begins them where they gain more per second than the search, and ends it within 0.2 to 0.7 of the time."""

    members: int = Field(default=0, ge=0, le=2**31 - 1)
    epochs: Positive = 60
    time_share: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = 0.4


SAMPLERS = ("known_cost", "tpe", "nsga2", "gp", "random")
KNOWN_COST = "known_cost"
HUB = "optunahub"


def _stored_start(start: str) -> str:
    """``stratified`` is stored under its older name."""
    return "spread" if start == "stratified" else start


_MINUTES_OF_A_DECADE = 5_260_000


def is_study_file(text: str) -> bool:
    """Return True for an entry of ``search.warm_start`` that is a YAML file, not the name of a study."""
    return text.endswith((".yaml", ".yml"))


class SearchSection(Section):
    """Number of trained candidates, and the sampler. Infeasible and duplicate proposals do not count as trials.
    ``start: stratified`` draws the first ``startup_trials`` networks stratified over the latency budget, fastest first, instead of
    from the sampler; ``start_with_default`` puts the space's default network before them, and ``warm_start`` the best networks of
    earlier studies, whose results also inform the sampler known_cost. Each is the name of a study in the same database, or the YAML
    file of a study."""

    omitted_at_default = frozenset({"sampler_options", "warm_start"})

    sampler: str = KNOWN_COST
    sampler_options: dict[str, Any] = Field(default_factory=dict)
    trials: Positive = 32
    startup_trials: Positive = 10
    start: Annotated[Literal["sampler", "stratified", "spread"], AfterValidator(_stored_start)] = "sampler"
    start_with_default: bool = False
    warm_start: str | list[str] | None = None
    time_budget_minutes: float | None = Field(default=None, gt=0, le=_MINUTES_OF_A_DECADE)
    early_stopping: EarlyStoppingSection = EarlyStoppingSection()
    final_training: FinalTrainingSection = FinalTrainingSection()

    @property
    def earlier_studies(self) -> tuple[str, ...]:
        """Names and files of ``warm_start``, each once."""
        given = [self.warm_start] if isinstance(self.warm_start, str) else self.warm_start or []
        return tuple(dict.fromkeys(given))

    @model_validator(mode="after")
    def _time_shares_of_a_budget(self) -> SearchSection:
        if self.early_stopping.rungs_time_shares and self.time_budget_minutes is None:
            raise ValueError(
                "early_stopping.rungs_time_shares are shares of time_budget_minutes, which is not set: set it, or give rungs_epochs"
            )
        return self

    @model_validator(mode="after")
    def _known_sampler(self) -> SearchSection:
        own = self.sampler not in SAMPLERS
        if own and not is_reference(self.sampler):
            raise ValueError(
                f"search.sampler must be one of {', '.join(SAMPLERS)}, module:name of your own, or optunahub:NAME; correct it"
            )
        if self.sampler_options and not own:
            raise ValueError(
                f"search.sampler_options is for a sampler of your own; {self.sampler} takes none: leave it out"
            )
        return self


_MOST_CORES = 1024


class ComputeSection(Section):
    """Execution backend: ``ray`` (this machine, or a cluster by its address) or ``inprocess`` (sequential, in this process).
    ``workers_per_trial`` processes train one trial together (DDP); CPUs, GPUs and threads are per process. ``stage_cache_gb`` bounds the
    training states that candidates share (those that differ in prune ratio or precision only)."""

    backend: Literal["ray", "inprocess"] = "ray"
    ray_address: str | None = None
    cpus_per_trial: float = Field(default=1, gt=0, le=_MOST_CORES)
    gpus_per_trial: Annotated[float, Field(ge=0, le=_MOST_CORES)] | Literal["auto"] = 0.0
    threads_per_trial: int = Field(default=1, gt=0, le=_MOST_CORES)
    workers_per_trial: int = Field(default=1, gt=0, le=_MOST_CORES)
    max_failures: int = Field(default=2, ge=0, le=1000)
    stage_cache_gb: float = Field(default=2.0, ge=0)

    omitted_at_default = frozenset({"stage_cache_gb"})

    @model_validator(mode="after")
    def _several_workers_need_ray(self) -> ComputeSection:
        if self.workers_per_trial > 1 and self.backend != "ray":
            raise ValueError(
                f"compute.workers_per_trial is {self.workers_per_trial}, which needs compute.backend ray: set it, or use one worker"
            )
        if self.workers_per_trial > 1 and self.gpus_per_trial == "auto":
            raise ValueError(
                "compute.gpus_per_trial auto is for trials of one process: set a number, or workers_per_trial to 1"
            )
        return self


class StorageSection(Section):
    """The study's database while a launch runs; ``patience_s``: seconds of an outage that it waits for."""

    patience_s: float = Field(default=300.0, ge=0)


class ExportSection(Section):
    """Export of the front's members. ``quantized_variant``: with an INT8 variant; by default for boards with INT8."""

    parity_images: Positive = 8
    quantized_variant: bool | None = None

    omitted_at_default = frozenset({"quantized_variant"})


class StudyConfig(Section):
    """A whole study. ``schema_version`` rises when an old file would mean something else."""

    omitted_at_default = frozenset({"cluster", "storage", "targets"})

    schema_version: Literal[1] = 1
    study: StudySection
    data: DataSection
    space: SpaceSection = SpaceSection()
    device: DeviceSection
    targets: list[TargetSection] = Field(default_factory=list)
    objectives: list[ObjectiveSection] = Field(
        default_factory=lambda: [ObjectiveSection(name=item.name) for item in OBJECTIVES], min_length=2
    )
    robustness: RobustnessSection = RobustnessSection()
    training: TrainingSection = TrainingSection()
    search: SearchSection = SearchSection()
    compute: ComputeSection = ComputeSection()
    cluster: ClusterSection = ClusterSection()
    export: ExportSection = ExportSection()
    storage: StorageSection = StorageSection()

    @field_validator("space", mode="after")
    @classmethod
    def _stored_training_keys(cls, space: SpaceSection) -> SpaceSection:
        """Choices as the training reads them, under the stored name of their key: candidate ids do not depend on the spelling."""
        if space.training is None:
            return space
        stored = {
            stored_key(key): values if isinstance(values, LogRange) else [read_choice(key, value) for value in values]
            for key, values in space.training.items()
        }
        for key, values in stored.items():
            again = (
                [value for at, value in enumerate(values) if value in values[:at]] if isinstance(values, list) else []
            )
            if again:
                raise ValueError(f"space.training.{key} lists {again[0]} twice: leave one out")
        if len(stored) < len(space.training):
            raise ValueError(
                f"space.training gives one key twice, under two names ({', '.join(space.training)}): keep one"
            )
        return space.model_copy(update={"training": stored})

    @model_validator(mode="after")
    def _objectives_differ(self) -> StudyConfig:
        names = [item.name for item in self.objectives]
        if len(set(names)) < len(names):
            raise ValueError(f"objectives must be different ones, not {', '.join(names)}")
        return self

    @property
    def references(self) -> dict[str, str]:
        """The ``module:name`` references of the study by their key."""
        named = {"space.name": self.space.name, "data.kind": self.data.kind, "search.sampler": self.search.sampler}
        named |= {"device.latency_model": str(self.device.latency_model)}
        named |= {f"targets.{at}.latency_model": str(item.latency_model) for at, item in enumerate(self.targets)}
        named |= {f"objectives.{at}.name": item.name for at, item in enumerate(self.objectives) if is_custom(item.name)}
        return {key: value for key, value in named.items() if is_reference(value)}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that the study's networks run in on the device."""
        return tuple(self.space.precisions or (self.device.precision,))

    def precision_of(self, candidate: Candidate) -> Precision:
        """Return the candidate's own precision, or the study's where the space has no such dimension."""
        return candidate.precision or self.device.precision

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the targets, that of ``device`` first."""
        return (self.device.name, *(target.name for target in self.targets))

    def for_target(self, name: str) -> StudyConfig:
        """Return the configuration with one of ``targets`` as its only device; without a budget of its own that is infinite.

        Raises:
            KeyError: there is no such target.
        """
        if name == self.device.name:
            return self.model_copy(update={"targets": []})
        device, target = self.device, {item.name: item for item in self.targets}[name]
        changes = {
            "name": name,
            "latency_model": target.model_path(device.latency_model),
            "latency_models": target.latency_models,
            "precision": target.precision_beside(device.precision),
            "latency_budget_ms": target.latency_budget_ms or math.inf,
            "board": None,
        }
        return self.model_copy(update={"device": device.model_copy(update=changes), "targets": []})

    @model_validator(mode="after")
    def _targets_differ(self) -> StudyConfig:
        names = self.target_names
        if len(set(names)) < len(names):
            raise ValueError(f"the targets must be different ones, not {', '.join(names)}")
        for target in self.targets:
            runs = PROFILES[target.name].precisions
            if self.space.precisions and not set(self.space.precisions) & set(runs):
                raise ValueError(
                    f"{target.name} runs {' and '.join(runs)}, none of space.precisions ({', '.join(self.space.precisions)}): "
                    "leave the target out, or offer one of them"
                )
        return self

    @property
    def quantized_variant(self) -> bool:
        """True where bundles hold an INT8 variant."""
        profile, wanted = PROFILES.get(self.device.name), self.export.quantized_variant
        if wanted is None:
            return profile is not None and profile.int8 and profile.runtime == "tensorrt"
        return wanted

    @model_validator(mode="after")
    def _int8_exists_there(self) -> StudyConfig:
        if self.export.quantized_variant and not (self.device.name in PROFILES and PROFILES[self.device.name].int8):
            raise ValueError(f"export.quantized_variant is true, but {self.device.name} has no INT8: leave it out")
        return self

    @model_validator(mode="after")
    def _precisions_run_there(self) -> StudyConfig:
        device, offered = self.device, self.precisions
        runs = PROFILES[device.name].precisions if device.name in PROFILES else offered
        missing = [precision for precision in offered if precision not in runs]
        if missing:
            raise ValueError(
                f"space.precisions offers {', '.join(missing)}, which {device.name} does not run: offer {' or '.join(runs)}"
            )
        if device.precision not in offered:
            raise ValueError(
                f"device.precision is {device.precision}, which space.precisions ({', '.join(offered)}) does not offer: set it to "
                "the precision that device.latency_model speaks for, one of these"
            )
        return self

    @model_validator(mode="after")
    def _a_model_for_each_precision(self) -> StudyConfig:
        device = self.device
        unused = [name for name in device.latency_models if name == device.precision or name not in self.precisions]
        if unused:
            raise ValueError(
                f"device.latency_models names {unused[0]}, which is no other precision of space.precisions than device.precision "
                f"({device.precision}, whose model is device.latency_model): leave it out"
            )
        folders = [device.latency_model.parent, *(path.parent for path in device.latency_models.values())]
        if len(set(folders)) < len(folders):
            raise ValueError(
                "the latency models of two precisions lie in one folder, and each keeps its measurements beside it: "
                "give each of device.latency_models a folder of its own"
            )
        return self

    @model_validator(mode="after")
    def _searched_trainings_are_some(self) -> StudyConfig:
        choices = self.space.training or {}
        values = {key: [v.low, v.high] if isinstance(v, LogRange) else v for key, v in choices.items()}
        misfit = first_misfit(self.training, values)
        if misfit:
            raise ValueError(misfit)
        return self

    @model_validator(mode="after")
    def _rungs_below_epochs(self) -> StudyConfig:
        late = [rung for rung in self.search.early_stopping.rungs_epochs if rung >= self.training.epochs]
        if late:
            raise ValueError(
                f"search.early_stopping.rungs_epochs {late} must lie below training.epochs ({self.training.epochs})"
            )
        every = self.training.evaluate_every
        skipped = [rung for rung in self.search.early_stopping.rungs_epochs if rung % every]
        if skipped:
            raise ValueError(
                f"search.early_stopping.rungs_epochs {skipped} must be multiples of training.evaluate_every ({every}): "
                "other epochs are not evaluated"
            )
        return self
