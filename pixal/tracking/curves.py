"""Log the curves of fits: each epoch as it happens, and means over folds when all folds are done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pixal.tracking.run import now
from pixal.tracking.tracker import Tracker

_OF_FOLDS = ("loss", "val_loss")  # an epoch of a small network takes milliseconds, and a server must keep up


class FitHistory(Protocol):
    """The curves of a fit, with one value per epoch; ``times`` in seconds since 1970."""

    loss: list[float]
    validation_loss: list[float]
    accuracy: list[float]
    validation_accuracy: list[float]
    learning_rate: list[float]
    times: list[float]


class EpochLog:
    """Logs the curves of the fits of a run. The time of a point is that of its epoch."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._logged: dict[str, int] = {}  # epochs by the name of the metric

    def __call__(self, name: str, history: FitHistory) -> None:
        """Log the epochs of a fit that are not logged yet.

        Args:
            name: The name of the fit, for example ``fold_1``; "" for the fit of the resulting model.
            history: Its curves so far.
        """
        for metric, curve in _curves(history).items():
            if not name:
                self._log(metric, curve, history.times)
            elif metric in _OF_FOLDS:
                self._log(f"{name}/{metric}", curve, history.times)

    def finish(self, history: FitHistory, folds: Sequence[FitHistory]) -> None:
        """Log what is left of the resulting model's fit, and the mean validation curves of the fits with held-out
        parts.

        Args:
            history: Curves of the resulting model's fit.
            folds: Curves of the fits with held-out parts.
        """
        for number, fold in enumerate(folds, 1):
            if fold is not history:
                self(f"fold_{number}", fold)
        self("", history)
        times = _latest([fold.times for fold in folds])
        self._log("val_loss", _mean_curve([fold.validation_loss for fold in folds]), times)
        self._log("val_accuracy", _mean_curve([fold.validation_accuracy for fold in folds]), times)

    def _log(self, metric: str, curve: Sequence[float], times: Sequence[float]) -> None:
        for epoch in range(self._logged.get(metric, 0), len(curve)):
            time = times[epoch] if epoch < len(times) else now() / 1000
            if time > 0:  # else it belongs to an earlier run, which has logged it
                self._tracker.log_metric(metric, curve[epoch], epoch + 1, time=int(time * 1000))
        self._logged[metric] = max(self._logged.get(metric, 0), len(curve))


def _curves(history: FitHistory) -> dict[str, list[float]]:
    return {
        "loss": history.loss,
        "val_loss": history.validation_loss,
        "accuracy": history.accuracy,
        "val_accuracy": history.validation_accuracy,
        "learning_rate": history.learning_rate,
    }


def _latest(times: Sequence[Sequence[float]]) -> list[float]:
    """The time at which the last of several fits has reached each epoch."""
    longest = max(map(len, times), default=0)
    return [max((fit[epoch] for fit in times if epoch < len(fit)), default=0.0) for epoch in range(longest)]


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Mean of curves of different lengths: at each epoch, over the curves that reach it."""
    longest = max(map(len, curves), default=0)
    reaching = ([curve[epoch] for curve in curves if epoch < len(curve)] for epoch in range(longest))
    finite = ([value for value in values if math.isfinite(value)] for values in reaching)
    return [float(np.mean(values)) if values else math.nan for values in finite]
