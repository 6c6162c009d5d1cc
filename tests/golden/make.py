"""Write the fixtures of the golden tests with the code of this checkout: python tests/golden/make.py [PART ...]

The fixtures were written by commit b8deb69, before the modules moved. They are not to be written anew because a test fails:
the tests say that newer code still reads, and prints, what that commit wrote. Write a part anew only where its form is meant
to change, and say so in CHANGELOG.md. Parts, all by default, in this order: help, configs, identities, study, board, answers.
`study` calibrates this machine and trains a few tiny networks (about two minutes).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import yaml
from golden_internals import dump_config, load_config, training_fingerprints
from golden_kit import ENVIRONMENT, FIXTURES, PARSERS, ROOT, environment, help_file, help_text, scrubbed, store

from exports import PROFILES
from hw_latency_model import load_device
from search_spaces import SPACES, get_space

OTHER = {
    "encoder_decoder": {"family": "lcnet", "decoder": "lraspp", "width": 0.25, "prune_ratio": 0.5},
    "mobile_stages": {"stage2_kernel": 5, "stage3_depth": 1, "activation": "hard_swish", "stage1_se": True},
    "references": {"family": "ddrnet23_slim"},
}


def make_help() -> None:
    """help/*.txt"""
    for words in PARSERS:
        help_file(words).parent.mkdir(parents=True, exist_ok=True)
        help_file(words).write_text(help_text(words))


def make_configs() -> None:
    """studies.json, devices.json"""
    folder = ROOT / "configs"
    with environment(**ENVIRONMENT):
        studies = {path.name: dump_config(load_config(path)) for path in sorted(folder.glob("*.yaml"))}
        devices = {path.name: load_device(path) for path in sorted((folder / "devices").glob("*.yaml"))}
    store("studies.json", {name: scrubbed(yaml.safe_load(text), ROOT) for name, text in studies.items()})
    store("devices.json", {name: scrubbed(item.model_dump(mode="json"), ROOT) for name, item in devices.items()})


def make_identities() -> None:
    """candidates.json, fingerprints.json, profiles.json"""
    found = {}
    for name in SPACES:
        space = get_space(name)
        params = {**space.default().params, "learning_rate": 0.005, "resolution": "96x128", **OTHER[name]}
        other = space.candidate(params)
        net = space.build_pruned(other, 5)
        network = {
            "architecture_id": space.architecture_id(other),
            "operations_id": space.operations_id(other),
            "input_hw": list(space.input_hw(other)),
            "prune_ratio": space.prune_ratio(other),
            "hyperparameters": space.hyperparameters(other),
            "parameters": sum(item.numel() for item in net.parameters()),
            "weights": sorted(net.state_dict()),
        }
        found[name] = {"default": space.default().to_dict(), "other": other.to_dict(), "network": network}
    store("candidates.json", found)
    store("fingerprints.json", training_fingerprints(FIXTURES / "fingerprint_study.yaml"))
    profiles = PROFILES.items()
    store("profiles.json", {key: {"runtime": p.runtime, "precisions": list(p.precisions)} for key, p in profiles})


PARTS = {"help": make_help, "configs": make_configs, "identities": make_identities}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        print(f"writing {name}")
        PARTS[name]()


if __name__ == "__main__":
    main()
