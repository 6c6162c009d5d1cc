"""Power mode and ``jetson_clocks``: saved before they are changed, restored afterwards."""

import json
import os
import time
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from .errors import UserMistake
from .files import Json, json_or_none, read_text, write_durably
from .parsers import parse_jetson_clocks_store, parse_nvpmodel_conf
from .sensors import Gpu, power_mode, read_clocks
from .tree import Tree

STATE_FOLDER = "/var/tmp/paretoseg-clocks"
NANO_MODES = {"maxn": 0, "5w": 1}


class Lock(NamedTuple):
    """Frequencies at which the clocks were locked; ``cpu_khz`` is None where the board does not expose it."""

    gpu_hz: int
    cpu_khz: Optional[int]


class Clocks:
    """Lock and restore the clocks. The original state is kept in a file that survives a crash and a reboot.

    Attributes:
        held: the lock, while the clocks are locked.
        note: reason why the clocks are not locked, if they are not.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder = tree.path(STATE_FOLDER)
        self.state_path = self.folder / "state.json"
        self.held: Optional[Lock] = None
        self.note: Optional[str] = None

    def lock(self, profile: Optional[str], wanted: bool) -> None:
        """Set the power mode ``profile`` and lock the clocks.

        Clocks that cannot be locked are not an error: ``note`` has the reason, which the results repeat.

        Args:
            profile: name of a power mode; None or empty: the current one.
            wanted: lock the clocks.

        Raises:
            UserMistake: another power mode is active and cannot be changed.
        """
        if profile:
            self._set_mode(profile)
        if not wanted:
            self.note = "the job list asks for unlocked clocks"
        elif self.tree.command("jetson_clocks") is None:
            self.note = "no jetson_clocks on this machine"
        elif not self.tree.may_change():
            self.note = "not root, and sudo asks for a password: run the agent as root to lock the clocks"
        else:
            self._jetson_clocks()

    def _set_mode(self, profile: str) -> None:
        current = power_mode(self.tree)
        if current is None:
            self.note = "no nvpmodel on this machine"
            raise UserMistake(
                f"the job list asks for power profile {profile!r}, but nvpmodel does not answer here; "
                "leave power_profile out for machines other than a Jetson"
            )
        if current.name.lower() == profile.lower():
            return
        modes = parse_nvpmodel_conf(self.tree.read("/etc/nvpmodel.conf")) or NANO_MODES
        if profile.lower() not in modes:
            raise UserMistake("this board has no power mode {!r}; it has {}".format(profile, ", ".join(sorted(modes))))
        if not self.tree.may_change():
            raise UserMistake(
                f"power mode {current.name} is on, the job list asks for {profile}, and only root may change it; "
                f"run the agent as root, or first: sudo nvpmodel -m {modes[profile.lower()]}"
            )
        self._save_state({"mode": current.mode_id if current.mode_id is not None else modes.get(current.name.lower())})
        self.tree.run("nvpmodel", "-m", str(modes[profile.lower()]), as_root=True, answer="no\n")
        after = power_mode(self.tree)
        if after is None or after.name.lower() != profile.lower():
            raise UserMistake(
                "nvpmodel did not switch to {} (it says {}); a reboot may be needed: sudo nvpmodel -m {}".format(
                    profile, after.name if after else "nothing", modes[profile.lower()]
                )
            )

    def _jetson_clocks(self) -> None:
        store = self.folder / "jetson_clocks.store"
        self._make_folder()
        if store.exists():
            store.unlink()
        stored = self.tree.run("jetson_clocks", "--store", str(store), as_root=True, answer="y\n")
        if stored.code != 0 or not parse_jetson_clocks_store(read_text(store)):
            self.note = "jetson_clocks --store failed, so the clocks were left alone: " + stored.text.strip()[-200:]
            return
        self._save_state({"store": str(store)})
        done = self.tree.run("jetson_clocks", as_root=True, timeout_s=120)
        self.note = "jetson_clocks failed: " + done.text.strip()[-200:] if done.code != 0 else self._check()

    def _check(self) -> Optional[str]:
        """Wait until the GPU is locked (min = max = current) and set ``held``; return the problem, None when locked."""
        gpu = Gpu(self.tree)
        seen: Tuple[Optional[int], ...] = (None, None, None)
        for _ in range(10):
            seen = tuple(gpu.hz(which) for which in ("min", "max", "cur"))
            lowest, cap, now = seen
            if now is not None and lowest is not None and now == gpu.top_hz() and lowest in (now, cap):
                self.held = Lock(now, read_clocks(self.tree)["cpu_khz"])
                return None
            time.sleep(0.2)
        return "the GPU clock did not lock: min {}, max {}, current {} Hz".format(*seen)

    def _save_state(self, change: Json) -> None:
        self._make_folder()
        write_durably(self.state_path, json.dumps(dict(self._load_state(), **change)).encode())

    def _make_folder(self) -> None:
        """Create the state folder; its parent is world-writable, so files of another user are not passed to root commands."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            owner = self.folder.stat().st_uid
        except OSError as error:
            raise UserMistake(f"what to give back cannot be noted down in {self.folder}: {error}") from error
        if owner not in (0, os.geteuid()) or not os.access(str(self.folder), os.W_OK):
            raise UserMistake(f"{self.folder} belongs to another user: delete it, or run the agent as that user")

    def _load_state(self) -> Json:
        state = json_or_none(read_text(self.state_path))
        return state if isinstance(state, dict) else {}

    def restore(self) -> Optional[str]:
        """Restore the clocks and power mode changed by this run or by one that crashed; may be called repeatedly.

        Returns:
            None after success, otherwise the problem; the saved state is deleted last.
        """
        if not self.state_path.exists():
            return None
        state, problems = self._load_state(), []
        store = state.get("store")
        if isinstance(store, str) and parse_jetson_clocks_store(read_text(Path(store))):
            done = self.tree.run("jetson_clocks", "--restore", store, as_root=True, timeout_s=120)
            if done.code != 0:
                problems.append(f"jetson_clocks --restore {store}: {done.text.strip()[-200:]}")
        if isinstance(state.get("mode"), int):
            self.tree.run("nvpmodel", "-m", str(state["mode"]), as_root=True, answer="no\n")
            now = power_mode(self.tree)
            if now is None or now.mode_id not in (state["mode"], None):
                problems.append("nvpmodel -m {} did not take".format(state["mode"]))
        if problems:
            return "; ".join(problems)
        self.held = None
        for path in (self.folder / "jetson_clocks.store", self.state_path):
            if path.exists():
                path.unlink()
        return None
