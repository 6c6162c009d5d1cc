"""The committed YAML files as they were read before the restructuring: the same keys, the same values, the same paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_internals import dump_config, load_config
from golden_kit import ENVIRONMENT, ROOT, environment, scrubbed, stored

from hw_latency_model import load_device

STUDIES: dict[str, Any] = stored("studies.json")
DEVICES: dict[str, Any] = stored("devices.json")


def test_no_committed_yaml_is_gone():
    assert {path.name for path in (ROOT / "configs").glob("*.yaml")} >= STUDIES.keys()
    assert {path.name for path in (ROOT / "configs" / "devices").glob("*.yaml")} >= DEVICES.keys()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_read_as_before(name: str):
    with environment(**ENVIRONMENT):
        text = dump_config(load_config(ROOT / "configs" / name))
    assert scrubbed(yaml.safe_load(text), ROOT) == STUDIES[name]


@pytest.mark.parametrize("name", STUDIES)
def test_a_resolved_study_is_read_back_as_itself(tmp_path: Path, name: str):
    (tmp_path / name).write_text(yaml.safe_dump(STUDIES[name]).replace("<root>", str(ROOT)))
    assert scrubbed(yaml.safe_load(dump_config(load_config(tmp_path / name))), ROOT) == STUDIES[name]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_read_as_before(name: str):
    with environment(**ENVIRONMENT):
        config = load_device(ROOT / "configs" / "devices" / name)
    assert scrubbed(config.model_dump(mode="json"), ROOT) == DEVICES[name]
