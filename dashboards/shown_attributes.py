"""Answers of optuna-dashboard in terms of a study: short attributes, importances of what can matter, renaming without loss.

All change what passes between browser and dashboard, never the study: the dashboard renames a study by copying the trials that its
storage returns and deleting the original.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage

from objectives import trial_record as tr
from objectives.importance import importances
from objectives.objective import LATENCY, OBJECTIVES, Objective, get_objective
from search_spaces._common.errors import UserError

_DETAIL = re.compile(r"/api/studies/\d+")
_RENAME = re.compile(r"/api/studies/(\d+)/rename")
_IMPORTANCES = re.compile(r"/api/studies/(\d+)/param_importances")
_OUT_OF_SIGHT = re.compile(r"config|driver|environment|trial:\d+")
_LONGEST_WORDS = 80
_LISTS = ("study_summaries", "trials", "best_trials")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


def with_short_attributes(application: Application, storage: BaseStorage) -> Application:
    """Wrap the dashboard so that its pages show single short values, and a renamed study keeps its system attributes.

    Args:
        application: optuna-dashboard.
        storage: the storage that it reads.
    """

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ.get("REQUEST_METHOD"), environ.get("PATH_INFO", "")
        asked = _IMPORTANCES.fullmatch(path) if method == "GET" else None
        found = _importances(storage, int(asked[1])) if asked else None
        if found is not None:
            body = json.dumps({"param_importances": found}).encode()
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]
        renamed = _RENAME.fullmatch(path) if method == "POST" else None
        if not renamed and not (method == "GET" and (_DETAIL.fullmatch(path) or path == "/api/studies")):
            return application(environ, start_response)
        ours = tr.own_attributes(storage.get_study_system_attrs(int(renamed[1]))) if renamed else {}
        began: list[Any] = []
        body = b"".join(application(environ, lambda *arguments: began.extend(arguments)))
        status, headers = began[0], began[1]
        if status.startswith("2"):
            answer = json.loads(body)
            for key, value in ours.items():
                storage.set_study_system_attr(int(answer["study_id"]), key, value)
            body = json.dumps(short_attributes(answer)).encode()
        kept = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(body)))])
        return [body]

    return wrapped


def _importances(storage: BaseStorage, number: int) -> list[list[dict[str, Any]]] | None:
    """Importances by objective as the dashboard draws them; None for a study that is not one of paretoseg's, or has too few trials.

    The dashboard's own come from all dimensions, of which those of the training cannot matter for a predicted cost.
    """
    names = {study._study_id: study.study_name for study in storage.get_all_studies()}
    if number not in names:
        return None
    study = optuna.load_study(study_name=names[number], storage=storage, sampler=optuna.samplers.RandomSampler())
    records, objectives = tr.read_study(study), stored_objectives(tr.study_attributes(study))
    if len(objectives) != len(study.directions):
        return None
    axes: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        axes |= trial.distributions
    found = [importances(records, objective) for objective in objectives]
    if not any(found):
        return None
    return [
        [
            {"name": item.name, "importance": item.share, "distribution": type(axes[item.name]).__name__}
            for item in items
            if item.name in axes
        ]
        for items in found
    ]


def stored_objectives(attributes: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Return the objectives of a stored configuration; the default ones where it has none that this release knows."""
    config, class_names = attributes.get(tr.CONFIG) or {}, attributes.get("class_names") or ()
    budget_ms = config.get("device", {}).get("latency_budget_ms")
    items: list[dict[str, Any]] = [
        {"name": item} if isinstance(item, str) else item for item in config.get("objectives") or ()
    ]
    try:
        found = tuple(
            get_objective(
                item["name"],
                budget=budget_ms if item["name"] == LATENCY.name else item.get("budget"),
                class_names=class_names,
                direction=item.get("direction"),
            )
            for item in items
        )
    except UserError:
        found = ()
    return found or (OBJECTIVES[0], LATENCY.with_budget(budget_ms))


def short_attributes(answer: dict[str, Any]) -> dict[str, Any]:
    """Replace the attributes of an answer of the dashboard, and of the studies and trials that it lists, by single short values."""
    shown = dict(answer)
    if isinstance(answer.get("user_attrs"), list):
        pairs = [pair for item in answer["user_attrs"] for pair in _shown(str(item["key"]), str(item["value"]))]
        shown["user_attrs"] = [{"key": key, "value": value} for key, value in dict(pairs).items()]
    for name in _LISTS:
        if isinstance(answer.get(name), list):
            shown[name] = [short_attributes(item) for item in answer[name]]
    if isinstance(answer.get("union_user_attrs"), list) and isinstance(shown.get("trials"), list):
        shown["union_user_attrs"] = _columns(shown["trials"])
    return shown


def _shown(key: str, value: str) -> list[tuple[str, str]]:
    """Pairs of name and text that stand for an attribute; a text that the dashboard has cut off is no JSON and is left out."""
    if key in tr.HIDDEN:
        try:
            facts = tr.short_facts(key, json.loads(value))
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
        return [(name, str(fact)) for name, fact in facts.items()]
    if _OUT_OF_SIGHT.fullmatch(key):
        return []
    if value.startswith(("[", "{")):
        value = ", ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', value)) or value
        value = value if len(value) <= _LONGEST_WORDS else f"{value[: _LONGEST_WORDS - 1]}…"
    return [(key, value)]


def _columns(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names of all trials' attributes, and whether a table can be sorted by them as numbers."""
    sortable: dict[str, bool] = {}
    for trial in trials:
        for item in trial["user_attrs"]:
            sortable[item["key"]] = sortable.get(item["key"], True) and _is_number(item["value"])
    return [{"key": key, "sortable": value} for key, value in sortable.items()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
