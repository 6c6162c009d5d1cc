"""A password in every place where a URL may stand is in no message, file, report, bundle or database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces._common.errors import UserError
from search_spaces._common.urls import redact_url
from trial_runner.cli.main import main
from trial_runner.config.load import dump_config, load_config
from trial_runner.config.study import StudyConfig

PASSWORD = "s3cret%2Fpw"
URL = f"postgresql://me:{PASSWORD}@host/db"
OPENER = """
from objectives.data import open_dataset

def open_scenes(root, split, url):
    assert "s3cret" in url
    return open_dataset("synthetic", root=None, split=split, images=6, seed=0, height_px=32, width_px=64)
"""
SAMPLER = """
import optuna

def make(seed, url):
    assert "s3cret" in url
    return optuna.samplers.RandomSampler(seed=seed)
"""


@pytest.fixture
def secret_study(write_study: Callable[..., Path]) -> Path:
    study = write_study(trials=1, epochs=1)
    (study.parent / "secret_parts.py").write_text(OPENER + SAMPLER)
    text = study.read_text().replace(
        "data: {kind: synthetic, train_images: 12, val_images: 6, image_height_px: 32, image_width_px: 64}",
        f"data: {{kind: 'secret_parts:open_scenes', options: {{url: '{URL}'}}}}",
    )
    text = text.replace("search:\n", f"search:\n  sampler: secret_parts:make\n  sampler_options: {{url: '{URL}'}}\n")
    study.write_text(
        text.replace("backend: inprocess", f"backend: inprocess, ray_address: 'ray://me:{PASSWORD}@host:10001'")
    )
    return study


def test_a_study_keeps_the_passwords_of_its_options_to_itself(secret_study: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["launch"], ["launch"], ["front"], ["report"], ["doctor"], ["export"]):
        assert main([words[0], str(secret_study), "--set=search.trials=1"]) == 0, capsys.readouterr()
        out, err = capsys.readouterr()
        assert "s3cret" not in out + err, words
    written = [path for path in secret_study.parent.rglob("*") if path.is_file() and path.name != "study.yaml"]
    written += [path for path in secret_study.parent.rglob("study.yaml") if path != secret_study]
    assert any(path.name == "report.html" for path in written) and any("bundles" in path.parts for path in written)
    for path in written:
        if path.suffix not in (".pyc", ".py"):
            assert b"s3cret" not in path.read_bytes(), path


def test_a_changed_option_is_named_without_its_password(secret_study: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["launch", str(secret_study)]) == 0
    capsys.readouterr()
    other = URL.replace("host/db", "elsewhere/db")
    assert main(["launch", str(secret_study), f"--set=data.options.url='{other}'"]) == 2
    err = capsys.readouterr().err
    assert "data.options" in err and "elsewhere" in err and "s3cret" not in err


@pytest.mark.parametrize(
    "override",
    [
        f"study.storage='{URL}'",
        f"study.storage='mysql://me:{PASSWORD}@host/db'",
        f"study.storage='postgresql://me@host/db?password={PASSWORD}'",
        f"study.storage='postgres://me:{PASSWORD}@host/db'",
        f"study.storage='postgresql://me:{PASSWORD}@host:port/db'",
        f"data.kind='{URL}'",
        f"training.weights='{URL}'",
        f"training.epochs='{URL}'",
        f"device.latency_model='{URL}'",
        f"device.board='{URL}'",
        f"space.families=['{URL}']",
        f"space.name='{URL}'",
        f"objectives=['{URL}', val_miou]",
        f"search.sampler='{URL}'",
        f"search.warm_start='{URL}'",
        f"study.name='{URL}'",
        f"training.distillation.teacher='{URL}'",
        f"'{URL}'=1",
        f"study.{URL}=1",
    ],
)
def test_a_url_in_a_wrong_place_is_refused_without_its_password(
    write_study: Callable[..., Path], override: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["launch", str(write_study()), f"--set={override}"]) == 2
    out, err = capsys.readouterr()
    assert "s3cret" not in out + err and "Ctrl-C" not in out


def test_a_teacher_that_is_not_there_is_refused_before_the_study_begins(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    assert main(["launch", str(write_study()), "--set=training.distillation.teacher=nowhere"]) == 2
    out, err = capsys.readouterr()
    assert "nowhere" in err and "Ctrl-C" not in out


def test_the_resolved_config_has_no_secret_and_still_opens(write_study: Callable[..., Path]):
    study = write_study()
    options = (
        "password",
        "PassWord",
        "sslpassword",
        "passwd",
        "pwd",
        "access_token",
        "client_secret",
        "apikey",
        "pass%77ord",
    )
    urls = [f"postgresql://me@host/db?sslmode=require&{option}={PASSWORD}" for option in options]
    for url in (URL, *urls):
        assert "s3cret" not in redact_url(url) and "s3cret" not in redact_url(f"cannot open {url} now")
        text = dump_config(load_config(study, [f"study.storage='{url}'"]))
        assert "s3cret" not in text
        study.with_name("again.yaml").write_text(text)
        assert isinstance(load_config(study.with_name("again.yaml")), StudyConfig)


def test_an_error_for_the_user_never_holds_the_password_of_a_url():
    assert str(UserError(f"cannot open {URL}.")) == "cannot open postgresql://me:***@host/db."
