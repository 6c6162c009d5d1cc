"""optuna-dashboard of a study with the exported networks, notes and figures of its trials.

Optuna does not allow writing to a finished trial. The dashboard also reads a trial's note and artifacts from the study's
system attributes, which can be written at any time and are used here.
"""

from __future__ import annotations

import json
import mimetypes
import re
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna
import sqlalchemy.exc
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage, get_storage
from optuna_dashboard import save_plotly_graph_object, wsgi
from optuna_dashboard._note import get_note_from_system_attrs, save_note_with_version

from dashboards import notes
from dashboards.access import guarded, new_token
from dashboards.figures import curves as curve_figures, front as figures, latency as latency_figures
from dashboards.live import with_live_page
from dashboards.shown_attributes import with_short_attributes
from objectives.optuna_private import StudyStorage, storage_of, study_id
from objectives.optuna_reads import FastReadStorage
from objectives.pareto import ParetoFront
from objectives.rung_reliability import Rung
from objectives.trial_record import TrialRecord
from search_spaces._common.errors import UserError
from search_spaces._common.files import write_error
from search_spaces._common.urls import parse_database_url, redact_url

UPLOADED = ("preview.png", "model.onnx", "manifest.json")
_ARTIFACT_KEY = "dashboard:artifacts:{trial_id}:{artifact_id}"
_NAMESPACE = uuid.UUID("6f1a5f1e-7a43-5d0e-9c6b-2d1f5f0b9a11")
FIGURES = ("paretoseg-front", "paretoseg-curves", "paretoseg-latency")


def upload_bundle(
    study: optuna.Study, record: TrialRecord, bundle_dir: Path, artifact_store: FileSystemArtifactStore
) -> tuple[str, ...]:
    """Attach an exported network to its trial: preview image, ONNX file, manifest, and a note.

    Repeated calls replace the files under the same ids and write a note only if it has changed. Text of the user below the
    note's last heading is kept.

    Args:
        record: the trial, finished or not.
        bundle_dir: the bundle, of which the existing files of ``UPLOADED`` are uploaded.
        artifact_store: store that the dashboard serves, see ``open_artifact_store``.

    Returns:
        Names of the uploaded files.

    Raises:
        UserError: the bundle is missing, or a file cannot be copied.
    """
    if not bundle_dir.is_dir():
        raise UserError(
            f"there is no bundle at {bundle_dir}: run `paretoseg export` for trial {record.number}, then try again"
        )
    stored = StudyStorage(study)
    trial_id, known = stored.trial_id(record.number), stored.system_attrs()
    uploaded = {}
    for name in UPLOADED:
        source = bundle_dir / name
        artifact_id = str(uuid.uuid5(_NAMESPACE, f"{study.study_name}/{record.number}/{name}"))
        key = _ARTIFACT_KEY.format(trial_id=trial_id, artifact_id=artifact_id)
        if not source.is_file():
            if known.get(key, "null") != "null":
                stored.set_system_attr(key, "null")  # the dashboard's own mark of a deleted artifact
            continue
        try:
            with source.open("rb") as content:
                artifact_store.write(artifact_id, content)
        except OSError as error:
            raise write_error(bundle_dir / name, error) from error
        mimetype = mimetypes.guess_type(name)[0] or "application/octet-stream"
        meta = {"artifact_id": artifact_id, "filename": name, "mimetype": mimetype, "encoding": None}
        if known.get(key) != json.dumps(meta):
            stored.set_system_attr(key, json.dumps(meta))
        uploaded[name] = f"/artifacts/{study_id(study)}/{trial_id}/{artifact_id}"
    _save_note(study, trial_id, notes.trial_note(record, bundle_dir.name, uploaded))
    return tuple(uploaded)


def update_study_page(
    study: optuna.Study,
    records: Sequence[TrialRecord],
    front: ParetoFront,
    *,
    latency_budget_ms: float | None = None,
    device: str | None = None,
    rungs: Sequence[Rung] = (),
) -> None:
    """Add a summary and figures to the study's page; repeated calls replace them.

    The figures are those that the dashboard lacks: learning curves of multi-objective studies, and intervals.
    """
    drawn = (
        figures.pareto_figure(records, front, latency_budget_ms=latency_budget_ms),
        curve_figures.learning_curves_figure(records, front, rungs=rungs),
        latency_figures.predicted_vs_measured_figure(records),
    )
    for name, title, figure in zip(
        FIGURES, ("Pareto front", "Learning curves", "Predicted against measured"), drawn, strict=True
    ):
        if figure is not None:
            figure.update_layout(
                title={"text": title, "x": 0.02}, margin={"t": 60}, height=430
            )  # the dashboard's panel has a height of 450 px
            save_plotly_graph_object(study, figure, graph_object_id=name)
    _save_note(study, None, notes.study_note(study.study_name, records, front, latency_budget_ms, device))


def open_artifact_store(artifact_dir: Path) -> FileSystemArtifactStore:
    """Open the store in ``artifact_dir``, which is created if missing. Raises UserError if it cannot be."""
    try:
        artifact_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(artifact_dir, error) from error
    return FileSystemArtifactStore(artifact_dir)


class DashboardServer(ThreadingMixIn, WSGIServer):
    """Server with one thread per request, as a browser fetches artifacts while it polls the study."""

    daemon_threads = True
    token = ""

    @property
    def address(self) -> str:
        """URL of the dashboard, with its token."""
        return self.url("/dashboard")

    def url(self, path: str) -> str:
        """Return the URL of a path of the dashboard, with the token."""
        host = self.server_address[0]
        shown = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
        return f"http://{shown}:{self.server_port}{path}?token={self.token}"


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Discard log messages, as the dashboard polls every few seconds."""


def make_server(
    storage: str | BaseStorage,
    artifact_dir: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    token: str | None = None,
    read_only: bool = False,
) -> DashboardServer:
    """Create a dashboard server that listens but does not serve yet.

    Args:
        storage: an Optuna storage or the URL of an existing relational one.
        artifact_dir: folder of ``open_artifact_store``.
        host: address to listen on; only loopback is safe in an untrusted network: pages and token are sent unencrypted.
        port: port to listen on; 0 for any free one.
        token: secret that every client must show, of letters, digits, ``-`` and ``_``; a random one by default.
        read_only: refuse requests that change a study.

    Raises:
        UserError: the storage cannot be reached, the port is in use, or the token has other characters. A password in the URL is never
            shown.
    """
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", token):
        raise UserError(
            f"the dashboard's token has {len(token)} characters; it needs 16 at least, of A-Z, a-z, 0-9, - and _. "
            "Leave it out for a random one."
        )
    opened = _open_storage(storage) if isinstance(storage, str) else storage
    pages = with_short_attributes(wsgi(opened, artifact_store=open_artifact_store(artifact_dir)), opened)
    application = with_live_page(pages, opened)
    try:
        server = DashboardServer((host, port), _QuietHandler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"the dashboard cannot listen on {host}:{port}: {reason.rstrip('.')}. Choose another port with --port, or address with --host."
        ) from error
    server.token = token or new_token()
    server.set_app(guarded(application, host=host, port=server.server_port, token=server.token, read_only=read_only))
    return server


def serve(
    storage: str | BaseStorage,
    artifact_dir: Path,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    token: str | None = None,
    read_only: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard until Ctrl-C; see ``make_server``. ``on_ready`` is called with the URL, which holds the token."""
    server = make_server(storage, artifact_dir, host, port, token=token, read_only=read_only)
    try:
        if on_ready is not None:
            on_ready(server.address)
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        return
    finally:
        server.server_close()


def _open_storage(url: str) -> BaseStorage:
    shown = redact_url(url)
    try:
        try:
            parsed = parse_database_url(url, "the address")
        except UserError as error:
            raise UserError(f"the storage {shown} cannot be opened: {error}") from None
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if is_sqlite and parsed.database and parsed.database != ":memory:" and not Path(parsed.database).is_file():
            raise UserError(f"there is no study in {shown}: run `paretoseg launch` first, or name another config")
        # Wait for locks: the study may be running, and its driver writes.
        opened = FastReadStorage(url, engine_kwargs={"connect_args": {"timeout": 60}} if is_sqlite else {})
        return get_storage(opened)  # which keeps finished trials in memory
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, ImportError, RuntimeError) as error:
        first_line = redact_url(str(error)).strip().partition("\n")[0]
        raise UserError(
            f"the storage {shown} cannot be opened: {first_line}. Check the address, and that it is running."
        ) from None


def _save_note(study: optuna.Study, trial_id: int | None, body: str) -> None:
    known = StudyStorage(study).system_attrs()
    current = get_note_from_system_attrs(known, trial_id)
    wanted = notes.with_kept_words(body, current["body"])
    if wanted != current["body"]:
        save_note_with_version(storage_of(study), study_id(study), trial_id, current["version"] + 1, wanted)
