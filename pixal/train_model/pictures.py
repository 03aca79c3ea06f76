"""The pictures of training: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config import Config
from pixal.images import write_figure
from pixal.inputs import InputSet
from pixal.train_model.family import History, ModelFamily, Rows


def save_training(
    folder: Path, label: str, history: History, folds: list[History], strip: dict[str, Any], config: Config
) -> list[Path]:
    """Write loss and accuracy curves, as the ``plotting`` settings ask, and the ``strip``; return the files."""
    from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip

    figures: dict[str, Any] = {}
    if config.plotting.plot_loss and history.loss:
        figures["loss.png"] = loss_curve(
            np.array(history.loss),
            _padded([fold.validation_loss for fold in folds]),
            best_epoch=history.best_epoch,
            loss_name=config.model_training.loss_function,
            log=config.plotting.use_log_loss,
            title=f"{label}: loss",
        )
    if config.plotting.plot_accuracy and history.accuracy:
        figures["accuracy.png"] = accuracy_curve(
            np.array(history.accuracy),
            _padded([fold.validation_accuracy for fold in folds]),
            name="share of values within 0.02",
            title=f"{label}: accuracy",
        )
    channel = strip["channel"]
    figures["reconstructions.png"] = reconstruction_strip(
        strip["inputs"],
        strip["reconstructions"],
        strip["errors"],
        strip["names"],
        title=f"{label}: {channel}, its reconstruction, held-out error",
    )
    for name, figure in figures.items():
        write_figure(folder / name, figure)
    return [folder / name for name in figures]


def strip(inputs: InputSet, model: ModelFamily, errors: NDArray[np.float32], rows: Rows) -> dict[str, Any]:
    """Input, reconstruction and held-out error of the best, median and worst of the good parts ``rows``."""
    order = rows[np.argsort([float(np.mean(errors[row] ** 2)) for row in rows])]
    chosen = order[[0, len(order) // 2, -1]]
    images = inputs.images(chosen)
    return {
        "inputs": images[..., 0],
        "reconstructions": (images - model.error(inputs, chosen))[..., 0],
        "errors": np.sqrt(np.mean(errors[chosen] ** 2, axis=-1)),
        "names": [
            f"{kind}: {inputs.names[row]}" for kind, row in zip(("best", "median", "worst"), chosen, strict=True)
        ],
        "channel": inputs.channels[0],
    }


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves of different length over those that are still running; empty where there are none."""
    padded = _padded(curves)
    return [] if padded is None else [float(value) for value in np.nanmean(padded, axis=0)]


def _padded(curves: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
    """Curves as (n, longest), NaN after each end; None where there are none."""
    longest = max((len(curve) for curve in curves), default=0)
    if not longest:
        return None
    return np.array([[*curve, *[np.nan] * (longest - len(curve))] for curve in curves], np.float64)
