"""Attributes as optuna-dashboard shows them: those of studies of earlier releases as short values, renaming without loss.

Both change what passes between browser and dashboard, never the study: the dashboard renames a study by copying the trials that its
storage returns and deleting the original.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from optuna.storages import BaseStorage

from objectives import trial_record as tr

_DETAIL = re.compile(r"/api/studies/\d+")
_RENAME = re.compile(r"/api/studies/(\d+)/rename")
_OUT_OF_SIGHT = re.compile(r"config|driver|environment|trial:\d+")
_LONGEST_WORDS = 80

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


def short_attributes(answer: Any) -> Any:
    """Replace the attributes in an answer of the dashboard, at any depth, by single short values."""
    if isinstance(answer, list):
        return [short_attributes(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    shown = {
        key: value if key in ("graph_object", "note") else short_attributes(value) for key, value in answer.items()
    }
    if isinstance(answer.get("user_attrs"), list):
        pairs = [pair for item in answer["user_attrs"] for pair in _shown(str(item["key"]), str(item["value"]))]
        shown["user_attrs"] = [{"key": key, "value": value} for key, value in dict(pairs).items()]
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
