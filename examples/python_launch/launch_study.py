"""Calibrate, launch, read the front, export its best network and draw it, from Python.

python examples/python_launch/launch_study.py search.trials=20
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from paretoseg import Study, Table

STUDY = Path(__file__).with_name("study.yaml")


def main(overrides: Sequence[str] = ()) -> Table:
    study = Study(STUDY, overrides)
    if not study.config.device.latency_model.is_file():
        study.calibrate(minutes=0.8)

    front = study.launch()
    print(front)
    for row in front:
        print(
            f"trial {row['trial']}: mIoU {row['val_miou']:.3f} at {row['latency_ms']:.2f} ms, {row['parameters']:,} parameters"
        )
    print(study.trials().to_dataframe().groupby("outcome").size())

    folder = study.config.study.output_dir
    if front:
        print("bundle:", study.export(front[-1]["trial"], folder / "best"))
    print("report:", study.report())
    study.plot_front().write_html(folder / "front.html")
    return front


if __name__ == "__main__":
    main(sys.argv[1:])
