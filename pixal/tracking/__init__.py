"""Track runs: settings, metrics as they happen, data sets, files and models.

``tracked_run`` opens a run, and passes what is logged on to the loggers of the settings (``tracking.loggers``): MLflow,
CSV files, TensorBoard. A logger is one class with the interface ``RunLogger``.
"""

from pixal.tracking.curves import EpochLog, FitHistory
from pixal.tracking.environment import is_tracking
from pixal.tracking.run import COMPONENT_TAG, MODEL_TAG, TrackedDataset, TrackedModel
from pixal.tracking.tracker import Tracker, defer_runs, start_tracking, tracked_run, untracked

__all__ = [
    "COMPONENT_TAG",
    "MODEL_TAG",
    "EpochLog",
    "FitHistory",
    "TrackedDataset",
    "TrackedModel",
    "Tracker",
    "defer_runs",
    "is_tracking",
    "start_tracking",
    "tracked_run",
    "untracked",
]
