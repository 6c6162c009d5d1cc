"""The report: one file, whole for every state of a study, and harmless whatever the study holds."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sample_measurement import sample_measurement

from dashboards import text
from dashboards.figures import choices as choice_figures, curves as curve_figures, front as front_figures
from dashboards.figures.choices import choices_figure
from dashboards.figures.curves import learning_curves_figure
from dashboards.figures.parallel import parallel_data
from dashboards.figures.progress import random_baseline
from dashboards.reading import READING
from dashboards.study_report import report as report_module
from dashboards.study_report.inputs import RefitSpread, ReportInputs, WinnerKernels
from dashboards.study_report.report import write_report
from hw_latency_model.types import LatencyEstimate
from objectives import trial_record as tr
from objectives.objective import OBJECTIVES
from objectives.pareto import pareto_front
from objectives.rung_reliability import Rung
from search_spaces._common.errors import UserError
from search_spaces.candidate import Candidate
from search_spaces.describe import network_name
from trial_runner.front.table import front_records


class Page(HTMLParser):
    """Words, table rows, links, ids and scripts of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._words: list[str] = []
        self._inside: str | None = None
        self._cell = False
        self.feed(source)
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts += [""] if tag == "script" else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True
        if tag == "a":
            self.links.append(dict(attrs)["href"])

    def handle_endtag(self, tag):
        if tag == self._inside:
            self._inside = None
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self._words.append(data)
            if self._cell:
                self.rows[-1][-1] += data

    @property
    def figures(self):
        return {attrs["id"] for tag, attrs in self.tags if tag == "div" and attrs.get("class") == "figure"}


def report(path: Path, study: optuna.Study, **options) -> tuple[str, Page]:
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    write_report(path, ReportInputs(study_name=study.study_name, records=records, front=front, **options))
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


def test_a_real_study(tmp_path, make_study, class_names):
    study = make_study()
    (tmp_path / "out" / "exports").mkdir(parents=True)
    chosen = pareto_front(tr.read_study(study)).records[0]
    tr.store_later_facts(study, chosen.number, bundle=str(tmp_path / "out" / "exports" / "a b"))
    source, page = report(
        tmp_path / "out" / "report.html",
        study,
        class_names=class_names,
        device="local-cpu",
        latency_budget_ms=12.0,
        rungs=(Rung(1), Rung(3)),
        calibration={"summary": "24 networks in 78 s.", "noise_rel": 0.013, "other": {"x": 1}},
        config_yaml="storage: postgresql://me:SECRET@db/x\n",
    )
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    assert page.figures == {
        *("front", "classes", "progress", "hours", "schedule", "curves", "importance", "choices", "parity", "errors"),
    }
    assert any(attrs.get("class") == "parallel" for _, attrs in page.tags)
    # The front's table holds each member with what the records say of it.
    header = next(row for row in page.rows if "mIoU" in row and "bundle" in row)
    start = page.rows.index(header) + 1
    for record, row in zip(front.records, page.rows[start : start + len(front)], strict=True):
        cells = dict(zip(header, row, strict=True))
        assert cells["trial"] == str(record.number)
        assert cells["network"] == network_name(record.params)
        assert cells["mIoU"] == f"{record.val_miou:.3f}"
        assert cells["predicted, ms"].endswith(text.interval(record))
        held = "inside" if text.inside_interval(record) else "outside"
        assert cells["measured, ms; interval, error"].startswith(f"{text.milliseconds(record.measured_ms)} {held}")
    ended = text.by_outcome(records)
    for outcome in (tr.Outcome.FINISHED, tr.Outcome.STOPPED, tr.Outcome.INFEASIBLE, tr.Outcome.FAILED):
        assert f"{ended[outcome]} {text.OUTCOMES[outcome]}" in page.text
    assert f"{front.hypervolume:.3f}" in page.text
    assert "is over 12 ms" in page.text
    assert "the loss became NaN" in page.text
    assert "24 networks in 78 s." in page.text
    assert "1.3%" in page.text
    assert "neither labels nor predictions hold them: ice" in page.text
    assert "exports/a%20b" in page.links
    # Nothing is fetched from elsewhere, plotly is there once, and no password.
    assert not [attrs for tag, attrs in page.tags if attrs.get("src") or tag == "link"]
    assert source.count("plotly.js v") == 1
    assert "SECRET" not in source
    assert "postgresql://me:***@db/x" in page.text
    assert list((tmp_path / "out").iterdir()) != []
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_figures_carry_the_records(tmp_path, make_study):
    study = make_study(trials=20)
    _, page = report(tmp_path / "r.html", study, latency_budget_ms=12.0)
    drawn = json.loads(next(script for script in page.scripts if script.startswith("{")))
    traces = {trace["name"]: trace for trace in drawn["front"]["data"] if "name" in trace}
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    shown = traces["Pareto front, predicted"]
    assert shown["x"] == [r.latency_ms for r in front.records]
    assert shown["y"] == [r.val_miou for r in front.records]
    assert shown["error_x"]["array"] == pytest.approx([r.estimate.high_ms - r.latency_ms for r in front.records])
    assert shown["error_x"]["arrayminus"] == pytest.approx([r.latency_ms - r.estimate.low_ms for r in front.records])
    assert traces["measured on the device"]["x"] == [r.measured_ms for r in records if r in front]
    off = [r for r in records if r.complete and r not in front]
    assert traces["trained to the end"]["x"] == [r.latency_ms for r in off]


def make_refused(study: optuna.Study) -> None:
    trial = study.ask()
    trial.set_user_attr(tr.CANDIDATE, Candidate("encoder_decoder", 1, {"family": "resnet18"}).to_dict())
    trial.set_user_attr(tr.ESTIMATE, {"latency_ms": 50.0, "low_ms": 40.0, "high_ms": 60.0, "coverage": 1.0})
    trial.set_user_attr(tr.OUTCOME, tr.Outcome.INFEASIBLE)
    trial.set_user_attr(tr.REASON, "over budget")
    study.tell(trial, state=TrialState.PRUNED)


def test_an_empty_study_says_what_to_do(tmp_path):
    study = optuna.create_study(study_name="new", directions=[item.direction for item in OBJECTIVES])
    _, page = report(tmp_path / "r.html", study)
    assert page.figures == set()
    assert "paretoseg launch" in page.text
    assert "No trial failed." in page.text
    assert "No calibration was recorded" in page.text


def test_only_refused_trials(tmp_path):
    study = optuna.create_study(directions=[item.direction for item in OBJECTIVES])
    make_refused(study)
    make_refused(study)
    _, page = report(tmp_path / "r.html", study, latency_budget_ms=12.0)
    assert page.figures == set()
    assert "raise the budget" in page.text
    assert sum(row[-1] == "over budget" for row in page.rows if row) == 2


def test_nothing_measured_and_a_trial_still_running(tmp_path, make_study, class_names):
    study = make_study(trials=8, measured=False)
    study.ask()
    _, page = report(tmp_path / "r.html", study, class_names=class_names)
    assert page.figures == {"front", "curves", "progress", "hours", "schedule", "classes"}
    assert "Nothing has been measured on the device" in page.text
    assert "1 running" in page.text
    assert "not measured" in page.text


def test_a_front_member_that_falls_off_when_measured_is_named(tmp_path, make_study):
    study = make_study(trials=12, measured=False)
    first, second = pareto_front(tr.read_study(study)).records[:2]
    tr.store_later_facts(study, first.number, measurement=sample_measurement(9.0))
    tr.store_later_facts(study, second.number, measurement=sample_measurement(3.0))
    _, page = report(tmp_path / "r.html", study)
    assert f"By what was measured, trial {first.number} would not stand" in page.text
    assert "outside" in page.text


def test_precision_and_what_it_cost_are_told_where_a_network_is_quantized(tmp_path, make_study):
    records = tr.read_study(make_study(trials=12))
    member = pareto_front(records).records[0]
    score = replace(member.score, precision="int8", float_miou=0.987)
    records = [replace(member, score=score) if record is member else record for record in records]
    front = pareto_front(records)
    page = Page(
        write_report(tmp_path / "r.html", ReportInputs(study_name="q", records=records, front=front)).read_text()
    )
    header = next(row for row in page.rows if "float mIoU" in row and "bundle" in row)
    cells = dict(zip(header, page.rows[page.rows.index(header) + 1], strict=True))
    assert (cells["precision"], cells["float mIoU"]) == ("int8", "0.987")
    assert "fp32 and int8" in page.text
    plain = report(tmp_path / "p.html", make_study(trials=12))[1]
    assert not any("float mIoU" in row for row in plain.rows)


def test_a_final_training_goes_on_where_its_origin_ended(make_study):
    records = tr.read_study(make_study(trials=12))
    origin = next(record for record in records if record.outcome == tr.Outcome.FINISHED)
    later = replace(origin, number=99, parent_trial=origin.number, curve=((1, 0.7), (2, 0.8)))
    figure = learning_curves_figure([*records, later], pareto_front([later]))
    drawn = next(trace for trace in figure.data if trace.name == "on the front, fast to slow")
    last, value = origin.curve[-1]
    assert (drawn.x, drawn.y) == ((last, last + 1, last + 2), (value, 0.7, 0.8))
    assert f"trained on from trial {origin.number}" in drawn.hovertext[0]


def test_pictures_of_what_a_few_members_see_are_inside_the_page(tmp_path, make_study):
    study = make_study()
    members = pareto_front(tr.read_study(study), reference=(0.0, 12.0)).records
    for record in members[1:]:
        bundle = tmp_path / f"trial-{record.number}"
        bundle.mkdir()
        (bundle / "preview.png").write_bytes(b"\x89PNG of trial %d" % record.number)
        tr.store_later_facts(study, record.number, bundle=str(bundle))
    _, page = report(tmp_path / "r.html", study)
    pictures = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(pictures) == min(4, len(members) - 1)
    best = max(members[1:], key=lambda record: record.val_miou)
    assert pictures[0]["alt"].endswith(f"of trial {best.number}")
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)


def test_members_over_the_budget_are_named_and_not_called_the_best(tmp_path, make_study):
    study = make_study(trials=20, measured=False)
    fastest, *rest = pareto_front(tr.read_study(study)).records
    _, page = report(tmp_path / "r.html", study, latency_budget_ms=1.0001 * fastest.latency_ms)
    assert f"{text.miou(fastest.val_miou)} best mIoU" in page.text
    size = len(rest) + 1
    assert f"{size} on the Pareto front, 1 of them within the budget" in page.text
    assert f"{size} networks, 1 of them within the budget." in page.text
    header = next(row for row in page.rows if "mIoU" in row and "bundle" in row)
    start = page.rows.index(header) + 1
    listed = [row[0] for row in page.rows[start : start + size]]
    assert listed == [str(record.number) for record in (fastest, *rest)], "as many as the tile says"
    listed_by_front = front_records(tr.read_study(study), 1.0001 * fastest.latency_ms)
    assert [record.number for record in listed_by_front] == [fastest.number]
    assert f"by what was measured where it was: trials {', '.join(str(record.number) for record in rest)}." in page.text


def test_the_latency_model_is_told_in_words_and_linked(tmp_path, make_study):
    quality = {"networks": 14, "median_error_rel": 0.0475, "reference_ms": None, "speed_exponent": 1.0, "families": 1}
    page_of_model = tmp_path / "local-cpu" / "latency_report.html"
    options = {"calibration": quality, "latency_report": page_of_model}
    _, page = report(tmp_path / "runs" / "r.html", make_study(trials=8), **options)
    assert "median error, each network left out in turn 4.8%" in page.text
    assert "slowdown" not in page.text and "families" not in page.text
    assert "../local-cpu/latency_report.html" in page.links


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def test_text_from_outside_stays_text(tmp_path):
    study = optuna.create_study(
        study_name=EVIL, directions=[item.direction for item in OBJECTIVES], sampler=optuna.samplers.RandomSampler()
    )
    make_refused(study)
    for state in (TrialState.COMPLETE, TrialState.FAIL):
        trial = study.ask()
        trial.set_user_attr(tr.CANDIDATE, Candidate(EVIL, 1, {"family": EVIL, EVIL: EVIL, "width": EVIL}).to_dict())
        trial.set_user_attr(tr.ESTIMATE, {"latency_ms": 5.0, "low_ms": 4.0, "high_ms": 6.0, "unknown_kinds": [EVIL]})
        trial.set_user_attr(
            tr.SCORE,
            {
                "val_miou": 0.5,
                "epoch": 1,
                "epochs_total": 1,
                "macs": 1,
                "params": 1,
                "train_s": 1.0,
                "class_iou": [0.5],
            },
        )
        study._storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
        trial.set_user_attr(tr.OUTCOME, tr.Outcome.FINISHED if state is TrialState.COMPLETE else tr.Outcome.FAILED)
        trial.set_user_attr(tr.REASON, EVIL)
        study.tell(trial, [0.5, 5.0] if state is TrialState.COMPLETE else None, state)
    tr.store_later_facts(study, 1, bundle=EVIL, measurement=sample_measurement(5.0))
    _, page = report(
        tmp_path / "r.html",
        study,
        class_names=[EVIL],
        device=EVIL,
        data_name=EVIL,
        config_yaml=EVIL,
        calibration={EVIL: EVIL, "summary": EVIL},
    )
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert len(scripts) == 3
    assert not [attrs for tag, attrs in page.tags if "onerror" in attrs or tag == "img"]
    assert page.text.count("alert(1)") > 8
    figures = json.loads(next(script for script in page.scripts if script.startswith("{")))
    labels = json.dumps(figures)
    assert "<script" not in labels
    assert "<img" not in labels


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    study = optuna.create_study(directions=[item.direction for item in OBJECTIVES])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        report(tmp_path / "file" / "r.html", study)


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    study = optuna.create_study(directions=[item.direction for item in OBJECTIVES])
    report(tmp_path / "r.html", study)
    old = (tmp_path / "r.html").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        report(tmp_path / "r.html", study)
    assert (tmp_path / "r.html").read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_hundreds_of_trials_stay_one_small_file(tmp_path, make_study):
    study = make_study(trials=300)
    source, _ = report(tmp_path / "r.html", study, latency_budget_ms=12.0)
    assert len(source) < 6e6
    assert re.search(r"All 300 trials", source)


def test_a_long_study_is_drawn_as_densities_and_keeps_its_front(tmp_path, make_study, monkeypatch):
    for module in (front_figures, choice_figures):
        monkeypatch.setattr(module, "MOST_POINTS", 20)
    monkeypatch.setattr(curve_figures, "MOST_CURVES", 20)
    monkeypatch.setattr(report_module, "_MOST_ROWS", 30)
    study = make_study(trials=120)
    _, page = report(tmp_path / "r.html", study, latency_budget_ms=12.0)
    drawn = json.loads(next(script for script in page.scripts if script.startswith("{")))
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    off = [r for r in records if r.complete and r not in front]
    cells = next(trace for trace in drawn["front"]["data"] if trace["type"] == "heatmap")
    assert sum(sum(row) for row in cells["customdata"]) == len(off)
    assert "trained to the end" not in {trace.get("name") for trace in drawn["front"]["data"]}
    assert any(
        str(trace.get("name")).startswith(f"trained, off the front ({len(off)})") for trace in drawn["curves"]["data"]
    )
    assert any(trace["type"] == "box" for trace in drawn["choices"]["data"])
    assert "30 of 120 trials" in page.text and "paretoseg trials STUDY.yaml --csv" in page.text
    listed = page.rows[[row[:2] for row in page.rows].index(["trial", "outcome"]) + 1 :]
    assert {str(record.number) for record in front.records} <= {row[0] for row in listed}
    assert len({(row["trial"]) for row in drawn["parallel"]["rows"]}) == len(off) + len(front)


def test_brushed_axes_hold_every_dimension_that_varies(make_study):
    records = tr.read_study(make_study(trials=30))
    at = next(index for index, record in enumerate(records) if record.complete)
    other = replace(records[at].candidate, params={**records[at].params, "dilation": 2})
    records[at] = replace(records[at], candidate=other)
    data = parallel_data(records, pareto_front(records))
    axes = {axis["name"]: axis for axis in data["axes"]}
    assert {"family", "learning rate", "dilation", "mIoU", "latency"} <= axes.keys()
    assert axes["learning rate"]["log"] and axes["dilation"]["categories"] == ["–", "2"]
    complete = [record for record in records if record.complete]
    at = list(axes).index("latency")
    assert [row["values"][at] for row in data["rows"]] == pytest.approx([r.latency_ms for r in complete], rel=1e-3)
    family = axes["family"]["categories"]
    assert [family[row["values"][0]] for row in data["rows"]] == [r.params["family"] for r in complete]


def test_the_random_start_is_the_baseline(tmp_path, make_study):
    study = make_study(trials=30)
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    found = random_baseline(records, front, 10)
    start = [r for r in records if r.score is not None][:10]
    assert len(found.mean) == 10
    assert found.mean[-1] == pytest.approx(pareto_front(start, reference=(0.0, 12.0)).hypervolume)
    assert all(low <= high for low, high in zip(found.low, found.high, strict=True))
    assert list(found.mean) == sorted(found.mean) and found.low[-1] == pytest.approx(found.mean[-1])
    assert random_baseline(records, front, 0) is None
    _, page = report(tmp_path / "r.html", study, startup_trials=10)
    assert "the 10 networks of the start" in page.text
    assert "There is no baseline" in report(tmp_path / "s.html", study)[1].text


def test_networks_trained_again_are_shown_with_their_spread(tmp_path, make_study):
    study = make_study(trials=20)
    refits = [RefitSpread(3, 8, {1: 0.4, 2: 0.5, 3: 0.6}), RefitSpread(5, 8, {1: 0.25}), RefitSpread(999, 8, {1: 0.9})]
    _, page = report(tmp_path / "r.html", study, refits=refits)
    assert "How much of a difference is luck?" in page.text and "0.500 ± 0.100" in page.text
    assert "0.400 to 0.600" in page.text and "0.250 to 0.250" in page.text and "0.900 to 0.900" not in page.text
    assert "Trained again" not in report(tmp_path / "s.html", study)[1].text


def test_the_winners_time_is_told_by_kind_and_layer(tmp_path, make_study):
    kernels = tuple((f"stage{at}/conv", "conv" if at % 2 else "depthwise", 0.1 * (at + 1)) for at in range(30))
    estimate = LatencyEstimate(sum(ms for _, _, ms in kernels), 1.0, 99.0, 1.0, kernels)
    _, page = report(tmp_path / "r.html", make_study(trials=20), winner=WinnerKernels(3, estimate))
    drawn = json.loads(next(script for script in page.scripts if script.startswith("{")))
    (kinds,), (layers,) = drawn["kinds"]["data"], drawn["layers"]["data"]
    assert kinds["y"] == ["conv", "depthwise"]
    assert READING["Which layers?"].how in page.text
    assert layers["y"][0] == "1. stage29/conv" and layers["y"][-1] == "6 other layers"
    for bars in (kinds, layers):
        assert sum(bars["x"]) == pytest.approx(estimate.latency_ms, rel=1e-2)


def test_the_environment_of_the_launch_is_listed(tmp_path, make_study):
    _, page = report(tmp_path / "r.html", make_study(trials=4), environment={"torch": "2.9", "gpus": "none"})
    assert "The environment torch 2.9 gpus none" in page.text


def test_choices_are_told_where_networks_differ_in_them(make_study):
    records = [record for record in tr.read_study(make_study()) if record.complete]
    front = pareto_front(records)
    figure = choices_figure(records, front)
    titles = [title.text for title in figure.layout.annotations]
    assert len(titles) == 6 and "family" in titles
    panel = [trace for trace in figure.data if trace.xaxis == figure.data[2 * titles.index("family")].xaxis]
    told = {(family, miou) for trace in panel for family, miou in zip(trace.x, trace.y, strict=True)}
    assert told == {(record.params["family"], record.val_miou) for record in records}
    ratio = figure.layout[f"xaxis{titles.index('prune ratio') + 1}".replace("xaxis1", "xaxis")]
    assert ratio.categoryarray == ("0", "0.25", "0.5")
    assert [len(trace.x) for trace in panel] == [len(records) - len(front), len(front)]
    assert choices_figure(records[:4], front) is None
    assert choices_figure([records[0]] * 6, front) is None
