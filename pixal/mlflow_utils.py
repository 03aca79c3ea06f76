"""The tracking helpers under the name that other programs import. The code is in ``pixal.tracking``."""

from pixal.tracking import Tracker, is_tracking, start_tracking, tracked_run, untracked
from pixal.tracking.mlflow_writer import RunWriter, set_up_mlflow

__all__ = ["RunWriter", "Tracker", "is_tracking", "set_up_mlflow", "start_tracking", "tracked_run", "untracked"]
