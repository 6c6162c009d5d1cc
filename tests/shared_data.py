"""Place of the real data sets and measurements that tests read where they are."""

from __future__ import annotations

import os
from pathlib import Path

SHARED = Path(os.environ.get("PARETOSEG_SHARED", Path(__file__).resolve().parents[2] / "shared"))
