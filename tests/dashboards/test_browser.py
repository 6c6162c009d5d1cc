"""Report, live page and dashboard in a real browser, without a driver: Chromium prints the page that its scripts made."""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from dashboards.live import PATH
from dashboards.study_report.inputs import ReportInputs, WinnerKernels
from dashboards.study_report.report import write_report
from dashboards.web import make_server
from hw_latency_model.types import LatencyEstimate
from objectives import trial_record as tr
from objectives.pareto import pareto_front
from objectives.rung_reliability import Rung

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"),
    "--virtual-time-budget=20000",
)
# Frames of the report at two widths; what is wider than its frame and inside no scrolling box is cut.
FRAMES = """<body><pre id="found"></pre><script>
var found = {}, waiting = [1400, 390];
function look(width, frame) {
  var page = frame.contentDocument, figures = Array.from(page.querySelectorAll(".figure"));
  if (!figures.length || figures.some(function (f) { return !f.querySelector(".main-svg"); })) return false;
  var cut = Array.from(page.querySelectorAll("body *")).filter(function (e) {
    return e.getBoundingClientRect().right > width + 1 && !e.closest(".scroll, pre, svg, .figure");
  });
  found[width] = {
    figures: figures.length, scrolls: page.documentElement.scrollWidth,
    cut: cut.map(function (e) { return e.tagName + "." + e.className; }),
    hints: page.querySelectorAll(".hint").length, words: page.body.innerText
  };
  return true;
}
waiting.forEach(function (width) {
  var frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = "report.html";
  document.body.append(frame);
  frame.addEventListener("load", function () {
    var timer = setInterval(function () {
      if (look(width, frame)) {
        clearInterval(timer);
        document.getElementById("found").textContent = JSON.stringify(found);
      }
    }, 100);
  });
});
</script></body>"""
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\n../..\u202eknird\u202c"


@contextmanager
def serving(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def dom(address: str, profile: Path) -> tuple[str, list[str]]:
    """The page after its scripts ran, and the messages of its console."""
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_report_live_page_and_dashboard_in_a_browser(tmp_path, make_study):
    """Hostile names stay text on all three; the report fits a phone, and nothing is fetched from elsewhere."""
    study = make_study(trials=40, name=EVIL)
    records = tr.read_study(study)
    front = pareto_front(records, reference=(0.0, 12.0))
    names = [EVIL, *(f"class {index}" for index in range(13))]
    kernels = tuple((f"{EVIL}{at}", "conv", 0.1) for at in range(5))
    winner = WinnerKernels(1, LatencyEstimate(0.5, 0.4, 0.6, 1.0, kernels))
    inputs = ReportInputs(
        study_name=EVIL,
        records=records,
        front=front,
        class_names=names,
        device=EVIL,
        winner=winner,
        rungs=(Rung(1), Rung(3)),
    )
    write_report(tmp_path / "site" / "report.html", inputs)
    (tmp_path / "site" / "frames.html").write_text(FRAMES)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "site")
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as site:
        page, console = dom(f"http://127.0.0.1:{site.server_port}/frames.html", tmp_path / "profile")
    console = [line for line in console if "favicon" not in line]
    assert console == []
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', page, re.DOTALL)[1]))
    for width in ("1400", "390"):
        assert found[width]["figures"] >= 12
        assert found[width]["scrolls"] <= int(width) and found[width]["cut"] == []
        assert "<img src=x onerror=alert(2)>" in found[width]["words"]
    assert found["390"]["hints"] > found["1400"]["hints"]

    with serving(make_server(study._storage, tmp_path / "artifacts", port=0)) as server:
        live, console = dom(server.url(PATH), tmp_path / "profile")
        assert [line for line in console if "favicon" not in line] == []
        assert live.count("main-svg") >= 5 and "<img" not in live
        title = html.unescape(re.search(r'<h1 id="title">(.*?)</h1>', live, re.DOTALL)[1])
        assert title == EVIL
        assert f"<b>{len(front)}</b><span>on the front</span>" in live
        listed, _ = dom(server.address, tmp_path / "profile")
        assert "&lt;img src=x onerror=alert(2)&gt;" in listed and "<img src=" not in listed
