"""The folder of a run in the working directory, for loggers that write files."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from pixal.tracking.run import TrackedRun

FOLDER = "runs"


def run_folder(run: TrackedRun) -> Path:
    """The folder ``runs/NAME_TIME_ID`` of a run, which is created. Names sort by command, component, type and time."""
    name = re.sub(r"[^\w\-.]", "_", run.run_name)[:100]
    time = datetime.fromtimestamp(run.start_time / 1000, timezone.utc).strftime("%Y%m%dT%H%M%S")
    folder = Path(FOLDER).absolute() / f"{name}_{time}_{run.id[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
