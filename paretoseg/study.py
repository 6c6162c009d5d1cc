"""A study in Python: launch it, read its results, export what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.objective import Objective
from objectives.pareto import pareto_front
from objectives.trial_record import TrialRecord, read_study
from paretoseg.table import Table
from search_spaces._common.errors import UserError
from trial_runner.config.load import load_config, study_of
from trial_runner.config.study import StudyConfig
from trial_runner.front.table import flat_row, front_records, front_rows, trial_rows
from trial_runner.front.targets import target_view
from trial_runner.study.objectives import open_configured, stored_objectives
from trial_runner.study.paths import StudyPaths

if TYPE_CHECKING:
    import optuna
    import plotly.graph_objects as go

    from hw_latency_model import LatencyModel

_SHOWN = ("trial", "outcome", "network", "resolution", "prune_ratio", "val_miou", "latency_ms", "measured_ms", "reason")


class Study:
    """One study, of a YAML file, of a dict with the same keys, or of a configuration.

    Relative paths are taken from the YAML's folder, those of a dict from the current one; modules that the study refers to
    (``module:name``) are imported from there, too.

    Args:
        source: path of a YAML file, its values as a dict, or a `StudyConfig`.
        overrides: ``section.key=value`` with a YAML value each, as ``--set`` takes them; for a path only.

    Attributes:
        config: the configuration with absolute paths.

    Raises:
        UserError: a file that cannot be read, an unknown key, or a value out of range.
    """

    def __init__(
        self, source: str | PathLike[str] | Mapping[str, Any] | StudyConfig, overrides: Iterable[str] = ()
    ) -> None:
        if isinstance(source, str | PathLike):
            self.config = load_config(source, overrides)
        else:
            if tuple(overrides):
                raise UserError("overrides change the values of a YAML file; change the dict or configuration itself.")
            self.config = study_of(source, Path.cwd())

    def __repr__(self) -> str:
        return f"Study({self.config.study.name!r}, {len(self._records_so_far())} trials)"

    def calibrate(
        self, minutes: float = 1.5, *, seed: int = 0, progress: Callable[[str], None] | None = print
    ) -> dict[str, LatencyModel]:
        """Measure networks of the study's space on this machine and fit the latency model that ``device.latency_model`` names.

        Measurements are kept beside the model; a later calibration adds to them. Boards are calibrated with ``paretoseg calibrate``.

        Args:
            minutes: wall time for each precision, above 0; at least five networks are measured.
            seed: seed of the choice of networks.
            progress: called with a line of text after each network; None for silence.

        Returns:
            The model of each precision of the study.

        Raises:
            UserError: the study's device is not this machine, its latency model is a function, or a file cannot be written.
        """
        from hw_latency_model import LatencyModel, calibrate, get_device
        from search_spaces import open_space
        from trial_runner.launch_checks import check_room
        from trial_runner.training.trial import open_split

        config = self.config
        if config.device.predictor is not None:
            raise UserError(
                f"device.latency_model is {config.device.predictor}, a function: there is nothing to calibrate."
            )
        if not minutes > 0:
            raise UserError(f"a calibration needs time: minutes must be above 0, but is {minutes:g}.")
        space = open_space(config.space)
        classes = len(open_split(config.data, "val", config.study.seed).info.class_names)
        models: dict[str, LatencyModel] = {}
        for precision in config.precisions:
            device, path = get_device(config.device.name, precision), config.device.model_path(precision)
            check_room(path.parent)
            calibrate(device, space, classes, path.parent, budget_s=60 * minutes, seed=seed, progress=progress)
            models[precision] = LatencyModel.load(path)
        return models

    def launch(self, progress: Callable[[str], None] | None = print) -> Table:
        """Run the study to the end of its budget, or continue it where an earlier launch stopped.

        Args:
            progress: called with a line of text for each event; None for silence.

        Returns:
            The front within the budgets, as `front`.

        Raises:
            UserError: something to put right; the study is intact, and the next launch continues it.
            KeyboardInterrupt: after Ctrl-C; trials that ran are continued by the next launch.
        """
        from trial_runner.launch import launch, quiet_libraries

        quiet_libraries()
        launch(self.config, progress or (lambda line: None))
        return self.front()

    @property
    def optuna_study(self) -> optuna.Study:
        """The study in Optuna's database.

        Raises:
            UserError: it was not launched yet, or the database cannot be reached.
        """
        return open_configured(self.config)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """Objectives with direction, unit and budget."""
        return stored_objectives(self.config, self.optuna_study)

    def records(self) -> list[TrialRecord]:
        """Return all trials by number, with everything that is known of them.

        Raises:
            UserError: the study was not launched yet, or the database cannot be reached.
        """
        return read_study(self.optuna_study, self.config.study.output_dir)

    def front(self, target: str | None = None) -> Table:
        """Return the Pareto front within the budgets, the best in the last objective first: the fastest first, the most accurate last.

        Columns: ``trial``, ``network``, each dimension, ``precision``, ``val_miou``, ``float_miou``, latencies in milliseconds
        (``latency_ms``, ``latency_low_ms``, ``latency_high_ms``, ``measured_ms``), ``macs``, ``parameters``, ``bundle``, and each
        further objective; in a study of several targets ``TARGET_latency_ms``, ``_low_ms`` and ``_high_ms`` of each further one.

        Args:
            target: name of the target of the study whose latency and budget count; the first one by default.

        Raises:
            UserError: the study was not launched yet or has no such target, or the database cannot be reached.
        """
        view = target_view(self.config, self.optuna_study, target)
        members = front_records(view.records, view.budget_ms, view.objectives)
        return Table([flat_row(row) for row in front_rows(members, view.objectives)], _shown(view.objectives))

    def trials(self) -> Table:
        """Return every trial, the stopped, rejected and failed ones too, with ``outcome`` and ``reason`` beside the columns of `front`.

        Raises:
            UserError: the study was not launched yet, or the database cannot be reached.
        """
        study = self.optuna_study
        objectives, records = stored_objectives(self.config, study), read_study(study, self.config.study.output_dir)
        rows = trial_rows(records, objectives)
        return Table(rows, _shown(objectives))

    def report(self, path: str | PathLike[str] | None = None) -> Path:
        """Write the HTML report; return its path.

        Args:
            path: the file; ``report.html`` in the study's folder by default.

        Raises:
            UserError: the study was not launched yet, or the file cannot be written.
        """
        from trial_runner.front.report import write_study_report

        page = Path(path).resolve() if path is not None else None
        return write_study_report(self.config, self.optuna_study, StudyPaths(self.config.study.output_dir), page)

    def export(self, trial: int, folder: str | PathLike[str] | None = None) -> Path:
        """Write a finished trial as a bundle (ONNX, weights, manifest); return its folder.

        Args:
            trial: its number.
            folder: the bundle's folder; one below the study's by default.

        Raises:
            UserError: there is no such trial, it was not trained to the end, or the ONNX file does not agree with torch.
        """
        from trial_runner.front.exporter import export_now, find_trial

        study = self.optuna_study
        record = find_trial(read_study(study, self.config.study.output_dir), trial)
        return export_now(self.config, study, record, Path(folder).resolve() if folder is not None else None)

    def plot_front(self) -> go.Figure:
        """Return a plotly figure of the front: mIoU against latency, or each pair of the study's other objectives.

        Raises:
            UserError: no trial was trained to the end yet.
        """
        from dashboards.figures.front import pareto_figure

        study = self.optuna_study
        records = read_study(study, self.config.study.output_dir)
        front = pareto_front(records, objectives=stored_objectives(self.config, study))
        figure = pareto_figure(records, front, latency_budget_ms=self.config.device.latency_budget_ms)
        if figure is None:
            raise UserError("no trial was trained to the end yet: there is no front to draw. Launch the study first.")
        return figure

    def _records_so_far(self) -> list[TrialRecord]:
        try:
            return self.records()
        except UserError:
            return []


def _shown(objectives: Iterable[Objective]) -> list[str]:
    return [*_SHOWN, *(item.name for item in objectives)]
