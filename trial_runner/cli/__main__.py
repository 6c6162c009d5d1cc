"""``python -m trial_runner.cli``: the command `paretoseg`."""

import sys

from trial_runner.cli.main import main

sys.exit(main())
