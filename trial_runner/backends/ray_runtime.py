"""What Ray reads from the environment, set before it is imported: quiet, no usage report, and on loopback when it runs here."""

from __future__ import annotations

import os

_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",
    "TUNE_WARN_THRESHOLD_S": "60",
}
# Under its name for other platforms, this is Ray's switch for binding every service to 127.0.0.1.
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def prepare(*, local: bool) -> None:
    """Set what is not set already. Only of use before the first `import ray` of the process."""
    for key, value in {**_ALWAYS, **(_ON_LOOPBACK if local else {})}.items():
        os.environ.setdefault(key, value)
