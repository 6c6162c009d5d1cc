"""Copy and delete studies, with their files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import optuna

from objectives.optuna_private import storage_of
from objectives.trial_record import CONFIG, store_study_attribute, study_attributes
from search_spaces._common.errors import UserError
from search_spaces._common.files import atomic_folder, write_error
from trial_runner.config.study import StudyConfig
from trial_runner.study.lease import DriverLease
from trial_runner.study.paths import StudyPaths

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def study_files(config: StudyConfig) -> list[Path]:
    """Return the files and folders that launches of a study write below its ``output_dir``, those that exist.

    Other files there are the user's, and so is a database that lies in it.
    """
    paths = StudyPaths(config.study.output_dir)
    made = (
        paths.root / "trials",
        paths.bundle(0).parent,
        paths.cache,
        paths.artifacts,
        paths.config,
        paths.data_listing,
        paths.report,
        paths.front_csv,
        paths.logs,
        paths.launch_log,
        paths.root / "tensorboard",
        paths.root / "mlflow.db",
        paths.root / "wandb",
        paths.job_script,
        paths.job,
        paths.schema,
    )
    return [path for path in made if path.exists()]


def delete_study(config: StudyConfig, study: optuna.Study, *, files: bool) -> None:
    """Delete a study from its database, and the files that its launches wrote.

    Raises:
        UserError: it is running, or a file cannot be deleted.
    """
    with DriverLease(study):
        pass  # refused while another process drives it
    optuna.delete_study(study_name=study.study_name, storage=storage_of(study))
    for path in study_files(config) if files else ():
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError as error:
            raise UserError(
                f"the study {config.study.name} is deleted, but not {path}: {error.strerror or error}. Delete it by hand."
            ) from error


def copy_study(config: StudyConfig, study: optuna.Study, name: str) -> Path:
    """Copy a study within its database, and its files to a folder beside its own; return that folder.

    Raises:
        UserError: it is running, the name is none or taken, the folder exists, or the disk is full.
    """
    if not _NAME.fullmatch(name):
        raise UserError(
            f"the name of a study holds letters, digits, dot, dash and underscore, but is {name!r}. Choose another one."
        )
    folder = config.study.output_dir.parent / name
    if name in optuna.get_all_study_names(storage_of(study)):
        raise UserError(f"the database holds a study {name} already. Choose another name.")
    if folder.exists():
        raise UserError(
            f"{folder} is there already, where the files of the copy would go. Choose another name, or move it away."
        )
    with DriverLease(study):
        try:
            with atomic_folder(folder) as temporary:
                for path in study_files(config):
                    target = temporary / path.relative_to(config.study.output_dir)
                    shutil.copytree(path, target, symlinks=True) if path.is_dir() else shutil.copy2(path, target)
        except shutil.Error as error:
            raise write_error(folder, OSError(str(error))) from error
        optuna.copy_study(
            from_study_name=study.study_name,
            from_storage=storage_of(study),
            to_storage=storage_of(study),
            to_study_name=name,
        )
        made = optuna.load_study(study_name=name, storage=storage_of(study), sampler=study.sampler)
        stored = study_attributes(made).get(CONFIG)
        if stored is not None:
            section = {**stored["study"], "name": name, "output_dir": str(folder)}
            store_study_attribute(made, CONFIG, {**stored, "study": section})
        made.set_user_attr("driver", {**made.user_attrs["driver"], "until": 0.0})
    return folder
