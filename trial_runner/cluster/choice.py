"""The meaning of ``--cluster``: a batch system, a file of a site's section ``cluster``, this machine, or a running Ray cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

from search_spaces._common.errors import UserError
from search_spaces._common.yaml_config import check_values, read_yaml
from search_spaces.spaces.config import Section
from trial_runner.config.cluster import ClusterSection

_RAY = re.compile(r"(?P<client>ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")
_GCS_PORT, _CLIENT_PORT = 6379, 10001


class _ClusterFile(Section):
    cluster: ClusterSection


def cluster_overrides(choice: str | None) -> list[str]:
    """Return the ``--set`` overrides that ``--cluster`` stands for; none without it.

    Raises:
        UserError: it is none of ``slurm``, ``pbs``, ``local``, ``ray://HOST:PORT``, ``HOST:PORT`` and a YAML file.
    """
    if choice is None:
        return []
    if choice == "local":
        return ["cluster.kind=local"]
    if choice in ("slurm", "pbs"):
        return [f"cluster.kind={choice}"]
    if choice.endswith((".yaml", ".yml")):
        return _of_file(Path(choice))
    found = _RAY.fullmatch(choice)
    if found is None or not (found["client"] or found["port"]):
        raise UserError(
            f"--cluster takes slurm, pbs, local, ray://HOST:PORT of a running Ray cluster, or a YAML file with a section cluster; "
            f"found {choice}."
        )
    port = int(found["port"] or _GCS_PORT)
    if found["client"] and port == _CLIENT_PORT:
        raise UserError(
            f"{choice} is the port of Ray Client, through which Ray Tune cannot be driven. "
            f"Give the port of the cluster's head, --cluster ray://{found['host']}:{_GCS_PORT} unless it was started with another one."
        )
    return ["cluster.kind=local", f'compute.ray_address="{found["host"]}:{port}"']


def _of_file(path: Path) -> list[str]:
    values, tree = read_yaml(path, what="cluster file", sections="cluster")
    others = sorted(set(values) - {"cluster"})
    if others or not isinstance(values.get("cluster"), dict):
        raise UserError(
            f"{path} must hold the section cluster and no other{f', not {others[0]}' if others else ''}. Correct it."
        )
    site: dict[str, object] = values["cluster"]
    check_values(_ClusterFile, values, path, tree)
    if site.get("template") is not None:
        site["template"] = str((path.resolve().parent / str(site["template"])).resolve())
    return [f"cluster.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in site.items()]
