"""A tracked run without work, as a command."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from pixal.config import load_config
from pixal.tracking import tracked_run
from pixal.tracking.environment import SWITCH

os.environ[SWITCH] = "on"


def main() -> int:
    logging.basicConfig(format="%(message)s")
    Path("artifact.txt").write_text("of the run")
    start = time.monotonic()
    with tracked_run(load_config(), "front", "train") as tracker:
        tracker.log_metric("loss", 0.5, 1)
        tracker.log_params({"seed": 1})
        tracker.log_artifacts({"files": [Path("artifact.txt")]})
    print("seconds", time.monotonic() - start, flush=True)  # noqa: T201
    return 0
