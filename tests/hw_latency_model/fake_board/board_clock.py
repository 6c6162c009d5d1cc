"""The simulated board as the stand-ins share it: its tree, its GPU's speed, and what is to happen at which launch.

Python 3.6, standard library: it runs inside the agent's own process. SIMULATED, no recording of a board.
"""

import json
import os
import threading
import time
from pathlib import Path

FULL_HZ = 921600000
GPU = "sys/devices/57000000.gpu/devfreq/57000000.gpu"
POWER = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power{}_input"


def put(path, text):
    """Replace a file so that a reader sees the old text or the new one."""
    path = Path(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.rename(path)


class Board:
    """Counts launches, carries out ``scenario.json``, and makes the power rails follow the load."""

    def __init__(self, root):
        self.root = Path(root)
        self.launches = 0
        self.gpu_ms = 0.0
        scenario = self.root / "scenario.json"
        self.scenario = json.loads(scenario.read_text()) if scenario.exists() else []
        self.last_launch = 0.0
        self.load_is_followed = True
        if (self.root / "power.json").exists():
            self.load = json.loads((self.root / "power.json").read_text())
            threading.Thread(target=self._follow_load, daemon=True).start()

    def launch(self, ms, spread):
        """Run a network that takes ``ms`` at full clock; returns what it takes now."""
        self.launches += 1
        for event in self.scenario:
            if event["at"] == self.launches:
                for path, text in event.get("write", {}).items():
                    put(self.root / path, text)
                for path, text in event.get("append", {}).items():
                    with (self.root / path).open("a") as stream:
                        stream.write(text)
        wave = ((self.launches * 7919) % 1000) / 1000.0 - 0.5
        try:
            hz = int((self.root / GPU / "cur_freq").read_text())
        except (OSError, ValueError):
            hz = FULL_HZ
        taken = ms * (1 + spread * wave) * FULL_HZ / hz
        self.last_launch = time.monotonic()
        time.sleep(taken / 1e3 * 0.2)
        self.last_launch = time.monotonic()
        self.gpu_ms += taken
        return taken

    def rest(self):
        """Set the rails to their idle power, once the process has ended."""
        self.load_is_followed = False
        time.sleep(0.03)
        if (self.root / "power.json").exists():
            self._set_power("idle")

    def _set_power(self, state):
        for rail, milliwatts in enumerate(self.load[state]):
            put(self.root / POWER.format(rail), f"{milliwatts}\n")

    def _follow_load(self):
        state = None
        while self.load_is_followed:
            now = "busy" if time.monotonic() - self.last_launch < 0.02 else "idle"
            if now != state:
                state = now
                self._set_power(now)
            time.sleep(0.005)
