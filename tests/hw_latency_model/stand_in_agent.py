"""A stand-in for the board's agent that honours its interface and is as slow, or as broken, as a test wants.

Read from ``behaviour.json`` beside it: ``seconds`` per job, ``die_at`` (job id at which it kills itself, once), ``full_at`` (as if the
disk were full, once), ``user_error`` (ends with status 2 and this text), ``retry`` (job ids that fail and may be tried again), ``garbage``
(written between lines), ``wrong_sha`` (job ids that are reported with another file's checksum). Python 3.6, standard library.
"""

import binascii
import json
import os
import re
import signal
import sys
import time
from pathlib import Path


def line(record):
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    crc = binascii.crc32(text.encode()) & 0xFFFFFFFF
    return json.dumps(dict(record, crc=crc), sort_keys=True, separators=(",", ":")) + "\n"


def append(path, text):
    with Path(path).open("a") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def run(jobs_path, results):
    behaviour = json.loads(Path("behaviour.json").read_text())
    if behaviour.get("user_error"):
        sys.stderr.write(behaviour["user_error"] + "\n")
        return 2
    order = json.loads(Path(jobs_path).read_text())
    done = set()
    for text in Path(results).read_text().splitlines() if Path(results).exists() else []:
        found = re.search('"job_id":"([^"]*)".*"type":"measurement"}$', text)
        if found:
            done.add(found.group(1))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    run_id = str(os.getpid())
    board = {"type": "board", "run_id": run_id, "settings": {"warmup_s": 0}, "board_model": "stand-in"}
    append(results, line(dict(board, fingerprint={"device": order["device"], "board": "stand-in"})))
    for job in order["jobs"]:
        if job["id"] in done:
            continue
        time.sleep(behaviour.get("seconds", 0))
        if job["id"] == behaviour.get("die_at") and not Path("died").exists():
            Path("died").touch()
            append(results, '{"type":"measurement","job_id":"' + job["id"])
            os.kill(os.getpid(), signal.SIGKILL)
        if job["id"] == behaviour.get("full_at") and not Path("was_full").exists():
            Path("was_full").touch()
            sys.stderr.write("stopped early: disk full: results.jsonl cannot take another line\n")
            return 3
        common = {"run_id": run_id, "job_id": job["id"], "subject": job["subject"], "sha256": job["sha256"]}
        if job["id"] in behaviour.get("wrong_sha", []):
            common["sha256"] = "0" * 64
        if job["id"] in behaviour.get("retry", []):
            append(results, line(dict(common, type="failure", reason="out of memory", retry=True, log_tail="")))
            continue
        ms = 1.0 + 0.1 * (int(job["sha256"][:4], 16) % 100)
        measured = {
            "latency_ms_p50": ms,
            "latency_ms_p90": ms * 1.01,
            "latency_ms_p99": ms * 1.02,
            "samples_ms": [ms] * 8,
        }
        measured.update(runs=8, reference_ms=2.0, drift_rel=0.0, backend="stand-in", build_s=None, confidence_rel=0.001)
        append(results, line(dict(common, type="measurement", started_at="2026-01-01T00:00:00+00:00", **measured)))
        append(results, behaviour.get("garbage", ""))
    append(results, line({"type": "end", "run_id": run_id}))
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "check":
        print("a login script's greeting")
        print(json.dumps({"board_model": "stand-in", "python": sys.version.split()[0]}))
        sys.exit(0)
    words = sys.argv[2:]
    sys.exit(run(words[words.index("--jobs") + 1], words[words.index("--results") + 1]))
