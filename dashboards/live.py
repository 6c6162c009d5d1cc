"""Page beside optuna-dashboard that follows studies while they run: fronts with intervals, curves, progress, and comparison."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

import optuna
import plotly.graph_objects as go
from optuna.storages import BaseStorage
from plotly.offline import get_plotlyjs

from dashboards import text
from dashboards.figures import curves, front as fronts, progress
from dashboards.figures.comparison import fronts_figure, growth_figure
from dashboards.shown_attributes import Application, stored_objectives
from objectives.objective import Objective
from objectives.pareto import pareto_front, reference_point
from objectives.rung_reliability import Rung
from objectives.schedule import schedule
from objectives.trial_record import CONFIG, Outcome, State, TrialRecord, read_study, study_attributes

PATH = "/paretoseg"
_MOST_COMPARED = 6
_POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


@dataclass(frozen=True)
class _Study:
    """A study as it is in the database now."""

    number: int
    name: str
    records: Sequence[TrialRecord]
    objectives: tuple[Objective, ...]
    budget_ms: float | None
    rungs: tuple[Rung, ...]


def with_live_page(application: Application, storage: BaseStorage) -> Application:
    """Serve the page below `PATH`, and everything else by ``application``.

    Args:
        application: the dashboard.
        storage: the storage that it reads; one that keeps finished trials in memory is read quickly.
    """
    live = _LivePage(storage)

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") != "GET" or not (path == PATH or path.startswith(f"{PATH}/")):
            return application(environ, start_response)
        found = live.answer(path.removeprefix(PATH).strip("/"), parse_qs(environ.get("QUERY_STRING", "")))
        status, kind, body = found or ("404 Not Found", "text/plain; charset=utf-8", b"no such page\n")
        kept = "max-age=86400" if path.endswith(".js") else "no-store"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", kept)]
        start_response(status, [*headers, ("Content-Security-Policy", _POLICY)])
        return [body]

    return wrapped


class _LivePage:
    def __init__(self, storage: BaseStorage) -> None:
        self._storage, self._lock = storage, threading.Lock()
        self._last: dict[tuple[int, ...], tuple[object, bytes]] = {}

    def answer(self, name: str, query: Mapping[str, Sequence[str]]) -> tuple[str, str, bytes] | None:
        """Return status, type and content of a part of the page; None for an unknown one."""
        if name == "":
            return "200 OK", "text/html; charset=utf-8", _shell().encode()
        if name == "plotly.js":
            return "200 OK", "text/javascript; charset=utf-8", get_plotlyjs().encode()
        if name == "live.js":
            source = resources.files("dashboards").joinpath("live.js").read_bytes()
            return "200 OK", "text/javascript; charset=utf-8", source
        if name == "data":
            numbers = tuple(int(number) for number in query.get("study", ()) if number.isdigit())[:_MOST_COMPARED]
            with self._lock:  # one computation serves all viewers
                return "200 OK", "application/json", self._data(numbers)
        return None

    def _data(self, numbers: tuple[int, ...]) -> bytes:
        known = {study._study_id: study.study_name for study in self._storage.get_all_studies()}
        chosen = tuple(number for number in numbers if number in known) or tuple(known)[-1:]
        state = (known, [self._state(number) for number in chosen])
        last = self._last.get(chosen)
        if last is None or last[0] != state:
            studies = [_read(self._storage, number, known[number]) for number in chosen]
            listed = [{"id": number, "name": name, "shown": number in chosen} for number, name in known.items()]
            shown = _one(studies[0]) if len(studies) == 1 else _several(studies)
            last = state, json.dumps({"studies": listed, **shown}, allow_nan=False).encode()
            self._last = {chosen: last}
        return last[1]

    def _state(self, number: int) -> object:
        """Return what changes whenever the page of a study would."""
        trials = self._storage.get_all_trials(number, deepcopy=False)
        open_trials = [trial for trial in trials if not trial.state.is_finished()]
        progress = [(t.number, t.state.name, len(t.intermediate_values), len(t.user_attrs)) for t in open_trials]
        own = self._storage.get_study_system_attrs(number)
        later = [value for key, value in own.items() if key.startswith("paretoseg:trial")]
        return len(trials), progress, later


def _read(storage: BaseStorage, number: int, name: str) -> _Study:
    study = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
    attributes = study_attributes(study)
    config = attributes.get(CONFIG) or {}
    budget = config.get("device", {}).get("latency_budget_ms")
    objectives = stored_objectives(attributes)
    rungs = config.get("search", {}).get("early_stopping", {}).get("rungs_epochs") or ()
    return _Study(number, name, read_study(study), objectives, budget, tuple(Rung(epoch) for epoch in rungs))


def _one(study: _Study) -> dict[str, Any]:
    front = pareto_front(study.records, objectives=study.objectives)
    ended = text.by_outcome(study.records)
    best = max(front.records, key=lambda record: record.val_miou or 0.0, default=None)
    tiles = [(str(len(study.records)), "trials")]
    tiles += [(str(ended[outcome]), words) for outcome, words in text.OUTCOMES.items() if outcome != Outcome.DUPLICATE]
    tiles += [(str(ended[text.RUNNING]), text.RUNNING), (str(len(front)), "on the front")]
    tiles += [(text.miou(best.val_miou), f"best mIoU, at {text.milliseconds(best.latency_ms)} ms")] if best else []
    tiles.append((f"{front.hypervolume:.4g}", text.volume_name(front.objectives)))
    times = schedule(study.records)
    drawn = {
        "Front": fronts.pareto_figure(study.records, front, latency_budget_ms=study.budget_ms),
        "Learning curves": curves.learning_curves_figure(study.records, front, rungs=study.rungs),
        "Hypervolume by trial": progress.hypervolume_figure(study.records, front),
        "Hypervolume by hours": progress.hypervolume_hours_figure(times, front),
        "Workers": progress.schedule_figure(times),
    }
    running = [record for record in study.records if record.state == State.RUNNING and not record.paused]
    rows = [
        [
            str(record.number),
            text.network(record),
            str(record.curve[-1][0]) if record.curve else "0",
            text.miou(record.curve[-1][1]) if record.curve else "–",
            text.milliseconds(record.latency_ms),
        ]
        for record in running
    ]
    heads = ["trial", "network", "epoch", "mIoU", "predicted, ms"]
    return {"title": study.name, "tiles": tiles, "heads": heads, "rows": rows, "figures": _json(drawn)}


def _several(studies: Sequence[_Study]) -> dict[str, Any]:
    common = studies[0].objectives
    alike = [study for study in studies if [o.name for o in study.objectives] == [o.name for o in common]]
    everything = [record for study in alike for record in study.records]
    unlimited = [objective.with_budget(None) for objective in common]
    worst = reference_point(everything, objectives=unlimited)
    found = [(study.name, pareto_front(study.records, reference=worst, objectives=common)) for study in alike]
    hours = [(study.name, schedule(study.records)) for study in alike]
    rows = [
        [name, str(len(study.records)), str(len(front)), f"{times.hours:.2f}", f"{front.hypervolume:.4g}"]
        for study, (name, front), (_, times) in zip(alike, found, hours, strict=True)
    ]
    rows += [
        [study.name, str(len(study.records)), "other objectives", "", ""] for study in studies if study not in alike
    ]
    heads = ["study", "trials", "front", "hours", f"{text.volume_name(common)}, one reference point"]
    drawn = {
        "Fronts": fronts_figure(found),
        "Hypervolume by hours": growth_figure(hours, [front for _, front in found]),
    }
    title = " · ".join(study.name for study in studies)
    return {"title": title, "tiles": [], "heads": heads, "rows": rows, "figures": _json(drawn)}


def _json(drawn: Mapping[str, go.Figure | None]) -> list[dict[str, Any]]:
    return [{"title": title, **json.loads(figure.to_json())} for title, figure in drawn.items() if figure is not None]


def _shell() -> str:
    style = resources.files("dashboards").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>paretoseg</title>'
        f'<style>{style}</style></head>\n<body><header><div><h1 id="title">Studies</h1>'
        '<div class="soft" id="about">reading the database …</div><div class="studies" id="studies"></div>'
        '<div class="tiles" id="tiles"></div></div></header>\n<main>'
        '<section><h2 id="tabletitle"></h2><div class="scroll"><table><thead id="heads"></thead><tbody id="rows"></tbody></table></div>'
        '<p class="soft" id="norows"></p></section><div id="figures"></div></main>'
        f'<script src="{escape(PATH)}/plotly.js"></script><script src="{escape(PATH)}/live.js"></script></body></html>\n'
    )
