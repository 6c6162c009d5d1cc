"""Folders and file names of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StudyPaths:
    """The folders and files below a study's ``output_dir``."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def config(self) -> Path:
        return self.root / "study.yaml"

    @property
    def schema(self) -> Path:
        """JSON schema of a study's YAML, which editors read."""
        return self.root / "study.schema.json"

    @property
    def data_listing(self) -> Path:
        """Digests of the images and labels that the study is trained on."""
        return self.root / "data.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def front_csv(self) -> Path:
        return self.root / "front.csv"

    @property
    def launch_log(self) -> Path:
        """Lines of all launches, with their times."""
        return self.root / "launch.log"

    @property
    def job_script(self) -> Path:
        """Script of the study's job in a batch system."""
        return self.root / "job.sh"

    @property
    def job(self) -> Path:
        """The study's last job, as `trial_runner.study.job.Job`."""
        return self.root / "job.json"

    @property
    def logs(self) -> Path:
        """Logs of the study's jobs and of their nodes."""
        return self.root / "logs"

    def trial(self, number: int) -> Path:
        return self.root / "trials" / f"{number:05d}"

    def bundle(self, number: int) -> Path:
        return self.root / "bundles" / f"trial-{number:05d}"

    def relative(self, path: Path) -> str:
        """Return a path below the study's folder relative to it, as the study stores it; any other path as it is."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)
