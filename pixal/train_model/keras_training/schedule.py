"""Learning-rate schedules, by their names in ``model_training.learning_rate_schedule``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pixal.train_model.family import History


def learning_rate(settings: Mapping[str, Any], history: History) -> float:
    """The learning rate of the epoch after those of ``history``; a function of the past alone, so it has no state.

    constant: ``learning_rate``. cosine: from it down to its share ``learning_rate_end`` over ``n_epochs``, along half a
    cosine (Loshchilov and Hutter 2017, without restarts). plateau: multiplied by ``plateau_factor`` after each
    ``plateau_patience`` epochs in which the validation loss did not improve, but no lower than that share.
    """
    first, name = float(settings["learning_rate"]), settings["learning_rate_schedule"]
    last = first * float(settings["learning_rate_end"])
    if name == "cosine":
        passed = min(1.0, len(history.loss) / max(1, settings["n_epochs"] - 1))
        return float(last + (first - last) * (1 + np.cos(np.pi * passed)) / 2)
    if name == "plateau":
        return max(last, first * float(settings["plateau_factor"]) ** _plateaus(settings, history))
    return first


def repeated(histories: list[History], epochs: int) -> list[float]:
    """The learning rates for a fit of ``epochs`` epochs that does as most of ``histories`` did, (epochs,).

    The median at each epoch over those that were still running.
    """
    return [
        float(np.median([past.learning_rate[epoch] for past in histories if epoch < len(past.learning_rate)]))
        for epoch in range(epochs)
    ]


def _plateaus(settings: Mapping[str, Any], history: History) -> int:
    """How often the validation loss stood still for ``plateau_patience`` epochs."""
    found, waited, best = 0, 0, np.inf
    for loss in history.validation_loss:
        waited += 1
        if loss < best - settings["min_delta"]:
            best, waited = loss, 0
        if waited == settings["plateau_patience"]:
            found, waited = found + 1, 0
    return found
