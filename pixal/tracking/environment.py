"""Environment variables for tracking: whether it is on, which MLflow store is used, and time limits."""

from __future__ import annotations

import hashlib
import os

SWITCH = "PIXAL_TRACKING"  # "off" turns tracking off
TIMEOUT = "PIXAL_TRACKING_TIMEOUT"  # seconds that the MLflow store may take in all
STORE = "MLFLOW_TRACKING_URI"
VARIABLES = (SWITCH, TIMEOUT, STORE)

_TIMEOUT = 10.0
_LOCAL_TIMEOUT = 60.0  # no network, but a slow disk; making the store takes seconds


def is_tracking() -> bool:
    """Whether runs are logged: unless the environment says ``PIXAL_TRACKING=off``."""
    return os.environ.get(SWITCH, "on").lower() != "off"


def is_local() -> bool:
    """Whether the MLflow store is that of the working directory."""
    return STORE not in os.environ


def store_key() -> str:
    """Name the MLflow store without its address, which may hold a password."""
    uri = os.environ.get(STORE)
    return "local" if uri is None else hashlib.sha256(uri.encode()).hexdigest()[:16]


def time_limit() -> float:
    """Seconds that a process waits for the MLflow store in all."""
    default = _LOCAL_TIMEOUT if is_local() else _TIMEOUT
    try:
        return max(0.1, float(os.environ.get(TIMEOUT, default)))
    except ValueError:
        return default
