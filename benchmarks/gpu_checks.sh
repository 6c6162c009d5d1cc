#!/usr/bin/env bash
# Everything that a GPU must still show, in at most 12 minutes: one JSON file a check, and summary.json. Run again, it goes on with what is missing.
#
#   benchmarks/gpu_checks.sh --data CAMVID --weights IMAGENET [--out DIR] [--python PYTHON] [--dry-run | --tiny]
#
#   --dry-run  print the commands and check that their modules start
#   --tiny     run everything that needs no data on a small scale, also without a GPU
set -euo pipefail
cd "$(dirname "$0")/.."

data="" weights="none" out="runs/gpu_checks" python="${PYTHON:-python}" mode="full"
while [ $# -gt 0 ]; do
  case "$1" in
    --data) data="$2"; shift 2 ;;
    --weights) weights="$2"; shift 2 ;;
    --out) out="$2"; shift 2 ;;
    --python) python="$2"; shift 2 ;;
    --dry-run) mode="dry-run"; shift ;;
    --tiny) mode="tiny"; shift ;;
    *) echo "unknown argument $1: see the first lines of $0" >&2; exit 2 ;;
  esac
done
if [ "$mode" = full ] && [ ! -d "$data" ]; then
  echo "--data must be the CamVid folder, not '$data'" >&2
  exit 2
fi
mkdir -p "$out"
failed=0

# check NAME SECONDS MODULE ARGUMENTS…: run a check that has no result yet, within its share of the time
check() {
  local name="$1" limit="$2" module="$3" began=$SECONDS
  shift 3
  if [ -s "$out/$name.json" ]; then
    echo "$name: done before"
    return
  fi
  if [ "$mode" = dry-run ]; then
    echo "$name (at most $limit s): $python -m $module $*"
    "$python" -m "$module" --help > /dev/null || failed=1
    return
  fi
  if timeout --kill-after=10 "$limit" "$python" -m "$module" "$@" --json "$out/$name.part" > "$out/$name.log" 2>&1; then
    mv "$out/$name.part" "$out/$name.json"
    echo "$name: $((SECONDS - began)) s"
  else
    failed=1
    echo "$name failed after $((SECONDS - began)) s: see $out/$name.log" >&2
  fi
}

if [ "$mode" = tiny ]; then
  check options 300 benchmarks.gpu_checks options --size 32x64 --seconds 0.2 --no-compile
  check latency 300 benchmarks.gpu_checks latency --networks 8 --runs 2
  check together 300 benchmarks.gpu_checks together --size 32x64 --seconds 0.2
else
  check latency 75 benchmarks.gpu_checks latency --networks 60
  check together 40 benchmarks.gpu_checks together --seconds 6
  check options 80 benchmarks.gpu_checks options --seconds 6
  check throughput 50 benchmarks.train_throughput --data "$data" --out "$out/throughput" --networks mobilenetv2:1.0 --size 352x480 --images 64 --pairs 1 --batch 16
  # Goals: throughput 3 times the plain loop, val mIoU .70
  check camvid 470 benchmarks.camvid_train --data "$data" --weights "$weights" --minutes 7.5 --out "$out/camvid"
fi
[ "$mode" = dry-run ] && exit "$failed"
"$python" - "$out" <<'PYTHON'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
names = ("latency", "together", "options", "throughput", "camvid")
found = {name: json.loads((out / f"{name}.json").read_text()) for name in names if (out / f"{name}.json").is_file()}
(out / "summary.json").write_text(json.dumps(found, indent=2) + "\n")
print(f"{len(found)} of {len(names)} checks in {out / 'summary.json'}")
PYTHON
exit "$failed"
