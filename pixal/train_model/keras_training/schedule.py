"""Learning-rate schedules, by their names in ``model_training.learning_rate_schedule``."""

from __future__ import annotations

import numpy as np

from pixal.config.schema import ModelTraining
from pixal.train_model.history import History


def learning_rate(settings: ModelTraining, history: History) -> float:
    """Compute the learning rate of the epoch after those in ``history``.

    It depends on the history only, so an interrupted fit resumes with the same rates.

    - ``constant``: ``learning_rate``.
    - ``cosine``: from ``learning_rate`` down to ``learning_rate * learning_rate_end`` over ``n_epochs``, along half a
      cosine (Loshchilov and Hutter 2017, without restarts).
    - ``plateau``: multiplied by ``plateau_factor`` after every ``plateau_patience`` epochs in which the validation loss
      did not improve; never below ``learning_rate * learning_rate_end``.
    """
    first, name = settings.learning_rate, settings.learning_rate_schedule
    last = first * settings.learning_rate_end
    if name == "cosine":
        progress = min(1.0, len(history.loss) / max(1, settings.n_epochs - 1))
        return float(last + (first - last) * (1 + np.cos(np.pi * progress)) / 2)
    if name == "plateau":
        return float(max(last, first * settings.plateau_factor ** _count_plateaus(settings, history)))
    return float(first)


def typical_rates(histories: list[History]) -> list[float] | None:
    """The learning rates for a last fit that trains like the fits of ``histories``.

    The number of epochs is the median of the best epochs. The rate of an epoch is the median over the fits that were
    still running.

    Returns:
        One learning rate per epoch; None if no fit has epochs.
    """
    best = [history.best_epoch for history in histories if history.best_epoch]
    if not best:
        return None
    return [
        float(np.median([past.learning_rate[epoch] for past in histories if epoch < len(past.learning_rate)]))
        for epoch in range(int(np.ceil(np.median(best))))
    ]


def _count_plateaus(settings: ModelTraining, history: History) -> int:
    """Number of times that the validation loss did not improve for ``plateau_patience`` epochs."""
    plateaus, waited, best = 0, 0, np.inf
    for loss in history.validation_loss:
        waited += 1
        if loss < best - settings.min_delta:
            best, waited = loss, 0
        if waited == settings.plateau_patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus
