"""Power mode and ``jetson_clocks``: saved before they are changed, restored afterwards."""

import json
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from .errors import UserMistake
from .files import Json, json_or_none, read_text, write_durably
from .parsers import parse_jetson_clocks_store, parse_nvpmodel_conf
from .sensors import Gpu, power_mode, read_clocks
from .tree import Tree

STATE_FOLDER = "/var/tmp/paretoseg-clocks"
STATE_FILE, STORE_FILE = "state.json", "jetson_clocks.store"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
NANO_MODES = {"maxn": 0, "5w": 1}


def _close(path: Path, mode: int) -> None:
    """Set the mode of a file or folder of this user; one of root, written through sudo, keeps its own."""
    if path.lstat().st_uid == os.geteuid():
        path.chmod(mode)


class Lock(NamedTuple):
    """Frequencies at which the clocks were locked; ``cpu_khz`` is None where the board does not expose it."""

    gpu_hz: int
    cpu_khz: Optional[int]


class Clocks:
    """Lock and restore the clocks. The original state is kept in a file that survives a crash and a reboot.

    Root commands read that file, and its parent is writable by every user: the folder must be a real one of this user or root, closed to
    others, and hold regular files of these two only. Names of files are fixed, never read from the state.

    Attributes:
        held: the lock, while the clocks are locked.
        note: reason why the clocks are not locked, if they are not.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder = tree.path(STATE_FOLDER)
        self.state_path = self.folder / STATE_FILE
        self.store_path = self.folder / STORE_FILE
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
        store = self.store_path
        self._make_folder()
        if store.exists():
            store.unlink()
        stored = self.tree.run("jetson_clocks", "--store", str(store), as_root=True, answer="y\n")
        if stored.code != 0 or not parse_jetson_clocks_store(read_text(store)):
            self.note = "jetson_clocks --store failed, so the clocks were left alone: " + stored.text.strip()[-200:]
            return
        _close(store, 0o600)
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
        _close(self.state_path, 0o600)

    def _make_folder(self) -> None:
        """Create the state folder, closed to other users. Raises UserMistake if it cannot be trusted or written."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(str(self.folder)):
                self.folder.mkdir(mode=0o700)
            elif not self.folder.is_symlink() and not any(self.folder.iterdir()):
                _close(self.folder, 0o700)  # made by an earlier release under a loose umask
            problem = self.untrusted()
        except OSError as error:
            raise UserMistake(f"what to give back cannot be noted down in {self.folder}: {error}") from error
        if problem:
            raise UserMistake(problem)
        if not os.access(str(self.folder), os.W_OK):
            raise UserMistake(f"{self.folder} belongs to another user: delete it, or run the agent as that user")

    def untrusted(self) -> Optional[str]:
        """Return the reason why another user may have written the saved state; None where only this user or root can have.

        Raises:
            OSError: the folder cannot be read.
        """
        folder = str(self.folder)
        advice = f"; delete it (sudo rm -r {folder}) and reboot the board, which resets the clocks"
        facts = self.folder.lstat()
        if not stat.S_ISDIR(facts.st_mode):
            return f"{folder} is a link or a file, not a folder of the agent" + advice
        if facts.st_uid not in (0, os.geteuid()):
            return f"{folder} belongs to another user" + advice
        if facts.st_mode & _OTHERS_WRITE:
            return f"{folder} can be written by other users" + advice
        for path in sorted(self.folder.iterdir()):
            inside = path.lstat()
            is_own = stat.S_ISREG(inside.st_mode) and inside.st_uid in (0, os.geteuid()) and inside.st_nlink == 1
            if not is_own or inside.st_mode & _OTHERS_WRITE:
                return f"{path} is no regular file that only its owner can write" + advice
        return None

    def _load_state(self) -> Json:
        state = json_or_none(read_text(self.state_path))
        return state if isinstance(state, dict) else {}

    def restore(self) -> Optional[str]:
        """Restore the clocks and power mode changed by this run or by one that crashed; may be called repeatedly.

        Returns:
            None after success, otherwise the problem; the saved state is deleted last.
        """
        if not os.path.lexists(str(self.folder)):
            return None
        try:
            problem = self.untrusted()
        except OSError as error:
            problem = f"{self.folder} cannot be read: {error}"
        if problem or not self.state_path.exists():
            return problem
        state, problems = self._load_state(), []
        if state.get("store") is not None and parse_jetson_clocks_store(read_text(self.store_path)):
            done = self.tree.run("jetson_clocks", "--restore", str(self.store_path), as_root=True, timeout_s=120)
            if done.code != 0:
                problems.append(f"jetson_clocks --restore {self.store_path}: {done.text.strip()[-200:]}")
        if isinstance(state.get("mode"), int):
            self.tree.run("nvpmodel", "-m", str(state["mode"]), as_root=True, answer="no\n")
            now = power_mode(self.tree)
            if now is None or now.mode_id not in (state["mode"], None):
                problems.append("nvpmodel -m {} did not take".format(state["mode"]))
        if problems:
            return "; ".join(problems)
        self.held = None
        try:
            for path in (self.store_path, self.state_path):
                if path.exists():
                    path.unlink()
        except OSError as error:
            return f"the clocks are restored, but {self.folder} cannot be emptied: {error}"
        return None
