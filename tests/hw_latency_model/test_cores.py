"""Cores that this process may use: affinity, CPU quota of its control group (versions 1 and 2), batch systems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hw_latency_model.agent.cores import available_cores, core_limits
from hw_latency_model.agent.tree import Tree

V1_MOUNT = "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
V2_MOUNT = "29 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


def machine(folder: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(str(folder))


def cpu_v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


GROUPS: dict[str, tuple[dict[str, str], int]] = {
    "no control groups at all": ({}, 8),
    "version 2 without a quota": ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "docker with a namespace of its own, version 2": (
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "/sys/fs/cgroup/cpu.max": "200000 100000\n",
        },
        2,
    ),
    "a quota of one and a half cores has room for one": (
        {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n"},
        1,
    ),
    "a quota of half a core": ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "a systemd slice above the process's own group": (
        {
            "/proc/self/cgroup": "0::/user.slice/user-7.slice/job.scope\n",
            "/proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "/sys/fs/cgroup/user.slice/user-7.slice/cpu.max": "300000 100000\n",
            "/sys/fs/cgroup/user.slice/user-7.slice/job.scope/cpu.max": "max 100000\n",
        },
        3,
    ),
    "docker on version 1: its own group is mounted as the root": (
        {
            "/proc/self/cgroup": "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n",
            "/proc/self/mountinfo": V1_MOUNT.format(root="/docker/abc"),
            **cpu_v1("/sys/fs/cgroup/cpu,cpuacct", 400_000),
        },
        4,
    ),
    "Slurm on version 1: a group below the root": (
        {
            "/proc/self/cgroup": "4:cpu,cpuacct:/slurm/uid_7/job_1/step_0\n",
            "/proc/self/mountinfo": V1_MOUNT.format(root="/"),
            **cpu_v1("/sys/fs/cgroup/cpu,cpuacct", -1),
            **cpu_v1("/sys/fs/cgroup/cpu,cpuacct/slurm/uid_7/job_1", 300_000, 50_000),
        },
        6,
    ),
    "version 1 without a quota": (
        {"/proc/self/cgroup": "1:cpu:/\n", **cpu_v1("/sys/fs/cgroup/cpu", -1)},
        8,
    ),
}


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("name", GROUPS)
def test_the_quota_of_the_control_group_limits(name: str, tmp_path: Path) -> None:
    files, cores = GROUPS[name]
    assert available_cores(machine(tmp_path, files), {}) == cores


BATCH: list[tuple[dict[str, str], int]] = [
    ({"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "4"}, 2),
    ({"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "4"}, 4),
    ({"SLURM_CPUS_PER_TASK": "64"}, 8),
    ({"PBS_JOBID": "1.server", "NCPUS": "3", "OMP_NUM_THREADS": "3"}, 3),
    ({"PBS_JOBID": "1.server", "PBS_NUM_PPN": "5"}, 5),
    ({"NCPUS": "3", "NSLOTS": "2"}, 8),  # of no batch job
    ({"SGE_TASK_ID": "undefined", "NSLOTS": "2"}, 2),
    ({"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "6"}, 6),
    ({"SLURM_CPUS_PER_TASK": "", "PBS_JOBID": "1", "NCPUS": "all"}, 8),
    ({"OMP_NUM_THREADS": "1"}, 8),
]


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("environment", "cores"), BATCH)
def test_a_batch_job_has_what_its_system_granted(environment: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert available_cores(Tree(str(tmp_path)), environment) == cores


def test_the_limit_names_what_sets_it(tmp_path: Path) -> None:
    limits = core_limits(machine(tmp_path, {"/sys/fs/cgroup/cpu.max": "50000 100000\n"}), {"SLURM_CPUS_PER_TASK": "1"})
    assert [limit.source for limit in limits] == [
        "CPU affinity",
        "CPU quota of the control group",
        "SLURM_CPUS_PER_TASK",
    ]


SHOW = """
import json
from hw_latency_model.agent.cores import available_cores
from hw_latency_model.agent.facts import board_facts
from hw_latency_model.agent.tree import Tree
from hw_latency_model.local.device import LocalCpuDevice
from objectives.data.file_data import worker_threads
facts = board_facts(Tree("/nowhere"))["cores"]
print(json.dumps([available_cores(), worker_threads(), LocalCpuDevice().fingerprint()["cores"], facts]))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_decoding_threads_fingerprint_and_board_facts_follow_the_affinity() -> None:
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert json.loads(done.stdout) == [1, 1, 1, 1]


@pytest.mark.skipif(
    not os.access("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", os.W_OK), reason="needs root and cgroup version 1"
)
def test_a_real_quota_is_found() -> None:
    group = Path(f"/sys/fs/cgroup/cpu/paretoseg-test-{os.getpid()}")
    group.mkdir()
    try:
        (group / "cpu.cfs_quota_us").write_text("100000")
        code = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n{SHOW}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    finally:
        group.rmdir()
    assert json.loads(done.stdout)[:3] == [1, 1, 1]


def test_no_usage_data_is_sent_by_onnx_runtime(tmp_path: Path) -> None:
    """Whoever imports it: it opens a database for them below the home folder at once."""
    code = "import exports.onnx.export, onnxslim, onnxruntime, exports.onnx.runtime"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower() or "Microsoft" in path.parts]
