"""The documents name only what exists: links, commands, targets, keys of a study and their defaults; and no machine's paths."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from dashboards.reading import READING
from hw_latency_model.board.device_config import is_device_file, load_device
from trial_runner.cli.main import build_parser
from trial_runner.config.load import load_config
from trial_runner.config.study import StudyConfig

ROOT = Path(__file__).resolve().parent.parent
_MADE_FOLDERS = {"runs", "data", "build", "dist", "exported", "__pycache__"}
_FENCE = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\"")
_ROW = re.compile(r"^\| `([a-z_]+(?:\.[a-z_]+)*)` \|(.*)\|$", re.MULTILINE)
_MACHINE_PATH = re.compile(r"(?<![\w.<>-])/(?:work|root|home|Users)(?:/|(?=[\s\"'`:,;)\]]|$))", re.MULTILINE)


def committed_files() -> Iterator[Path]:
    """Files that are, or would be, committed: all but made folders and hidden ones (.ci is the exception)."""
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") for part in parts[:-1]) and parts[0] != ".ci"
        made = parts[0] in _MADE_FOLDERS or "__pycache__" in parts or parts[-1].endswith(".egg-info")
        if path.is_file() and not hidden and not made:
            yield path


DOCUMENTS = [path for path in committed_files() if path.suffix == ".md"]
README = (ROOT / "README.md").read_text()
REPORT_PAGE = (ROOT / "docs" / "reading-the-report.md").read_text()
TASKS = "\n".join([README, (ROOT / "docs" / "tasks.md").read_text(), REPORT_PAGE])
PACKAGES = ("paretoseg", "search_spaces", "exports", "hw_latency_model", "objectives", "dashboards", "trial_runner")


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def commands(text: str, name: str) -> list[list[str]]:
    """Lines of the code blocks that run ``name``, as arguments without it."""
    found = []
    for language, block in _FENCE.findall(text):
        if language not in ("sh", "bash", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == name:
                found.append(words[1:])
    return found


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return set(actions[0].choices)


def slugs(text: str) -> set[str]:
    """Anchors that a Markdown page offers, as GitHub makes them from its headings."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of the schema with its default, or "required"."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if section is not None:
            yield from keys(section, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", default


def as_yaml(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(document: Path):
    for groups in _LINK.findall(prose(document.read_text())):
        link = groups[0] or groups[1]
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {link}, which is not there"
        if anchor:
            assert anchor in slugs(path.read_text()), f"{document.name} links to {link}: no such heading"


def test_every_command_of_the_readme_and_the_tasks_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    parser = build_parser()
    found = commands(TASKS, "paretoseg")
    for words in found:
        arguments = parser.parse_args(["0" if word == "NUMBER" else word for word in words])
        if getattr(arguments, "study", None) is not None:
            load = load_device if is_device_file(arguments.study) else load_config
            load(arguments.study, arguments.overrides)
    assert {words[0] for words in found} >= {"launch", "dashboard", "calibrate", "export"}
    assert {words[0] for words in commands(README, "paretoseg")} >= {"launch", "dashboard", "calibrate", "export"}
    assert "`make test`" in README  # what CI calls


def test_the_page_on_the_report_has_each_figure_with_the_words_of_the_report():
    asked = set()
    for path in (ROOT / "dashboards" / "study_report").glob("*.py"):
        asked |= set(re.findall(r"question\([\"'](.+?\?)[\"']\)", path.read_text()))
    sections = re.findall(r"^### (.+?)\n(.+?)(?=^#|\Z)", REPORT_PAGE, re.MULTILINE | re.DOTALL)
    assert len(asked) > 10 and asked == set(READING) == {question for question, _ in sections}
    for question, words in sections:
        assert " ".join(words.split()) == f"{READING[question].how} **Then:** {READING[question].act}"


def source_files() -> list[str]:
    """Paths of the packages' modules, relative to the repository."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "__init__.py")


def defined_names(path: Path) -> set[str]:
    """Functions, classes, methods and module constants of a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_path_named_in_backticks_exists(document: Path):
    tops = {path.name for path in ROOT.iterdir()} - _MADE_FOLDERS
    for path in re.findall(r"`([\w.-]+(?:/[\w.-]*)+)`", prose(document.read_text())):
        if path.split("/")[0] in tops and path.split("/")[0] != "shared":
            assert (ROOT / path).exists(), f"{document.name} speaks of {path}, which is not there"


def test_the_architecture_names_every_module_and_no_other():
    rows = re.findall(r"^\| `([\w/]+/)` \| (.*) \|$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    named = {
        f"{folder}{name}.py"
        for folder, cell in rows
        for part in re.split(r"; |: ", cell)
        for names in re.findall(r"^(?:and a command each: )?((?:`\w+`(?:, )?)+)", part)
        for name in re.findall(r"`(\w+)`", names)
    }
    modules = set(source_files())
    assert named - modules == set(), "ARCHITECTURE.md names modules that are not there"
    assert modules - named == set(), "ARCHITECTURE.md lacks modules"


def test_classes_and_methods_named_in_the_architecture_exist():
    known = set().union(*(defined_names(ROOT / path) for path in source_files()))
    text = prose((ROOT / "ARCHITECTURE.md").read_text())
    named = re.findall(r"`([A-Z][a-z]+(?:[A-Z]\w*)+)(?:\.(\w+))?`", text)
    for name in {name for pair in named for name in pair if name}:
        assert name in known or name in ("channels", "number"), f"ARCHITECTURE.md speaks of {name}"


def test_the_answers_to_where_is_what_are_found_by_name():
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## Where is what")[1].split("\n## ")[0]
    modules, counted = source_files(), {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 6 or not cells[0].isdigit():
            continue
        answer, name = re.findall(r"`([^`]+)`", cells[4])
        assert name in defined_names(ROOT / answer), f"{answer} does not define {name}"
        patterns = re.findall(r"`([^`]+)`", cells[2])
        opened = [path for path in modules if any(fnmatch(path, pattern) for pattern in patterns)]
        if answer not in opened:
            hits = {path: (ROOT / path).read_text().lower().count(cells[3].lower()) for path in modules}
            opened += sorted((path for path in modules if hits[path]), key=lambda path: (-hits[path], path))
        wrong = opened.index(answer)
        assert wrong <= int(cells[5]), f"question {cells[0]} opens {opened[:wrong]} first"
        counted[cells[1]] = (int(cells[0]), wrong)
    assert len(counted) == 15
    assert sum(wrong for number, wrong in counted.values() if number <= 12) <= 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_and_targets_named_in_passing_exist(document: Path):
    text = document.read_text()
    known = subcommands(build_parser())
    for name in re.findall(r"`(?:\.venv/bin/)?paretoseg ([a-z][a-z-]+)", text):
        assert name in known, f"{document.name} speaks of paretoseg {name}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"`make ([a-z-]+)[ `]", text) + [words[0] for words in commands(text, "make")]
    for name in named:
        assert name in targets, f"{document.name} speaks of make {name}"


def test_every_study_named_in_the_readme_and_the_tasks_is_committed():
    named = set(re.findall(r"configs/[\w-]+\.yaml", TASKS))
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name


def test_the_configuration_page_has_every_key_with_its_default_and_no_other():
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = {key: [cell.strip() for cell in cells.split("|")] for key, cells in _ROW.findall(page)}
    rows = {key: cells for key, cells in rows.items() if len(cells) == 4}
    known = dict(keys(StudyConfig))
    assert set(rows) == set(known)
    for key, default in known.items():
        assert rows[key][2] == as_yaml(default), f"{key} has the default {default}, the page says {rows[key][2]}"
        assert all(rows[key][index] for index in (0, 2, 3)), f"{key} lacks a type or a meaning"


def test_no_committed_file_holds_a_path_of_somebodys_machine():
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        match = _MACHINE_PATH.search(text)
        assert match is None, f"{path.relative_to(ROOT)}: {text[match.start() : match.start() + 60]!r}"
