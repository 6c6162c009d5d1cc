"""Several processes that train one network: the same weights in each, the same result every time, and through Ray Train."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from launching import assert_whole, finish, records

from objectives.trial_record import Outcome
from search_spaces import open_space
from trial_runner.config.load import ConfigError, load_config
from trial_runner.training.checkpoint import load_checkpoint
from trial_runner.training.trial_spec import TrialSpec

WORKER = """
import json, sys
import torch
from torch import distributed
from trial_runner.training.trial import run_trial
from trial_runner.training import trainer
from trial_runner.training.trial_spec import TrialSpec

rank, port, stop_at, spec = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), TrialSpec.from_dict(json.loads(sys.argv[4]))
distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
made = []
original = trainer.Trainer.__init__
def remember(self, *args, **kwargs):
    original(self, *args, **kwargs)
    made.append(self)
trainer.Trainer.__init__ = remember
curve = []
def report(progress):
    curve[:] = progress.curve
    return progress.epoch >= stop_at
run_trial(spec, report)
digest = [float(p.double().abs().sum()) for p in made[0].net.parameters()]
print(json.dumps({"curve": curve, "digest": digest, "macs": made[0].score.macs}))
distributed.destroy_process_group()
"""


def run_two(order: TrialSpec, stop_at: int) -> list[dict[str, object]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = json.dumps(order.to_dict())
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(port), str(stop_at), text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_and_resume_bit_for_bit(
    write_study: Callable[..., Path], tmp_path: Path
):
    config = load_config(write_study(epochs=3), ["training.ema_decay=0.9", "training.precise_bn_batches=2"])
    space = open_space(config.space)
    candidate = space.candidate({**space.default().params, "prune_ratio": 0.5})
    whole, parts = (TrialSpec(0, candidate, config, tmp_path / name, tmp_path / "cache") for name in ("whole", "parts"))
    left, right = run_two(whole, 99)
    assert left == right and len(left["curve"]) == 3
    run_two(parts, 1)
    again, _ = run_two(parts, 99)
    assert again["curve"] == left["curve"]
    states = [load_checkpoint(order.checkpoint_path) for order in (whole, parts)]
    one, other = (state.weights for state in states if state is not None)
    assert all(torch.equal(one[key], other[key]) for key in one)


FAILING = """
import sys
from torch import distributed
from trial_runner.training.distributed import DistributedContext

rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{sys.argv[2]}", rank=rank, world_size=2)
context = DistributedContext.current()
if rank in map(int, sys.argv[3].split(",")):
    print(context.all_failed(), flush=True)
else:
    context.broadcast([1])  # waits for the other until it ends
"""


@pytest.mark.parametrize(("failing", "said"), [("0,1", ["True", "True"]), ("0", ["False"]), ("1", ["False"])])
def test_a_process_that_fails_alone_knows_it_in_bounded_time(failing: str, said: list[str]):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-c", FAILING]
    both = [
        subprocess.Popen(
            [*words, str(rank), str(port), failing], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for rank in (0, 1)
    ]
    try:
        outs = [process.communicate(timeout=200)[0].split() for process in both]
    finally:
        for process in both:
            process.kill()
    assert [word for words in outs for word in words] == said


@pytest.mark.slow
def test_a_study_trains_each_trial_with_two_workers_of_ray_train(write_study: Callable[..., Path]):
    study = write_study(trials=2, epochs=2, backend="ray")
    finish(study, "--set", "compute.workers_per_trial=2")
    found = records(study)
    assert_whole(found, trials=2, epochs=2)


@pytest.mark.slow
def test_a_batch_that_one_of_two_workers_cannot_train_on_ends_its_trial_with_the_reason(
    write_study: Callable[..., Path],
):
    """Three images for two workers: the second has one, and a map of 1×1 has no variance of its channels."""
    study = write_study(trials=1, epochs=2, backend="ray")
    few = [
        "data.train_images=3",
        "space.resolutions_px=[[32, 32]]",
        "space.families=[resnet10t]",
        "space.decoders=[fpn]",
    ]
    settings = ["compute.workers_per_trial=2", "compute.max_failures=0", *few]
    finish(study, *(word for item in settings for word in ("--set", item)))
    (record,) = records(study)
    assert record.outcome == Outcome.FAILED and "two values per channel" in str(record.reason), record.reason


def test_several_workers_need_ray(write_study: Callable[..., Path]):
    with pytest.raises(ConfigError, match=r"needs compute\.backend ray"):
        load_config(write_study(), ["compute.workers_per_trial=2"])
