"""CPU cores that this process may use. The one source of that number: the packages above import this module, too."""

import os
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Set, Tuple

from .tree import Tree

# Cores that a batch system grants to a task on this node; of each job variable the first that is set counts.
_GRANTS: Tuple[Tuple[str, Tuple[str, ...]], ...] = (
    ("", ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")),
    ("PBS_JOBID", ("NCPUS", "PBS_NUM_PPN")),
    ("LSB_JOBID", ("LSB_DJOB_NUMPROC",)),
    ("SGE_TASK_ID", ("NSLOTS",)),
    ("_CONDOR_SLOT", ("_CONDOR_NPROCS",)),
)  # fmt: skip


class CoreLimit(NamedTuple):
    """A limit on the cores of this process, and what sets it."""

    cores: float
    source: str


def available_cores(tree: Optional[Tree] = None, environment: Optional[Mapping[str, str]] = None) -> int:
    """Return the number of cores that this process may use, at least 1: the lowest of `core_limits`, rounded down."""
    return max(int(min(limit.cores for limit in core_limits(tree, environment)) + 1e-6), 1)


def core_limits(tree: Optional[Tree] = None, environment: Optional[Mapping[str, str]] = None) -> List[CoreLimit]:
    """List what limits the cores of this process: its affinity, the CPU quota of its control group, its batch job.

    Args:
        tree: system files; the machine's own by default.
        environment: variables of the process; its own by default.
    """
    limits = [CoreLimit(float(_affinity()), "CPU affinity")]
    quota = _quota(tree or Tree())
    if quota is not None:
        limits.append(CoreLimit(quota, "CPU quota of the control group"))
    variables: Mapping[str, str] = os.environ if environment is None else environment
    for job, names in _GRANTS:
        if job and job not in variables:
            continue
        for name in names:
            if re.fullmatch(r"[1-9][0-9]{0,5}", variables.get(name, "").strip()):
                limits.append(CoreLimit(float(variables[name]), name))
                break
    return limits


def _affinity() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on Linux
        return os.cpu_count() or 1


def _quota(tree: Tree) -> Optional[float]:
    """Return the lowest CPU quota, in cores, of the control group (version 1 or 2) and those above it; None without one."""
    quotas = []
    for mount, inside in _cpu_groups(tree):
        parts = [part for part in inside.split("/") if part]
        for depth in range(len(parts) + 1):
            quota = _quota_in(tree, "/".join([mount.rstrip("/"), *parts[:depth]]))
            if quota is not None:
                quotas.append(quota)
    return min(quotas) if quotas else None


def _cpu_groups(tree: Tree) -> Set[Tuple[str, str]]:
    """Find the mounted hierarchies that limit CPU time: mount point, and path of this process's group below it."""
    paths: Dict[str, str] = {}
    for line in tree.read("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    groups = {("/sys/fs/cgroup", ""), ("/sys/fs/cgroup/cpu", "")}  # a container's own group is mounted as the root
    for line in tree.read("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        place, kind = fields.split(), rest.split()
        if len(place) < 5 or len(kind) < 3 or kind[0] not in paths:
            continue
        if kind[0] == "cgroup" and "cpu" not in kind[2].split(","):
            continue
        root, mount, path = place[3].rstrip("/"), place[4], paths[kind[0]]
        inside = path[len(root) :] if path == root or path.startswith(root + "/") else ""
        groups.add((mount, inside))
    return groups


def _quota_in(tree: Tree, folder: str) -> Optional[float]:
    found = re.match(r"(\d+) (\d+)", tree.read(folder + "/cpu.max"))
    if found:
        quota, period = int(found.group(1)), int(found.group(2))
    else:
        quota = tree.number(folder + "/cpu.cfs_quota_us") or 0
        period = tree.number(folder + "/cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None
