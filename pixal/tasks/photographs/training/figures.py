"""The pictures of training: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.inputs import InputSet
from pixal.io.images import write_figure
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.family import Rows
from pixal.train_model.folds import Fitted, of_type, places

_SEEN = 1200  # pixels of a picture's longer side: more are not seen in the strip
_FIGURES = ("loss.png", "accuracy.png", "reconstructions.png")


def save_training(
    folder: Path,
    label: str,
    fitted: Fitted,
    inputs: InputSet,
    errors: NDArray[np.float32],
    folds: Sequence[Rows],
    calibrations: dict[str, Calibration],
    config: PhotographConfig,
) -> list[Path]:
    """Write loss and accuracy curves, as the ``plotting`` settings ask, and a strip of good parts; return the files.

    ``errors`` (n, H, W, C): of the n rows in ``folds``, held out, in their order; without any there is no strip.
    """
    from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip

    history, figures, distances = fitted.history, {}, fitted.model.gives_distance
    if config.plotting.plot_loss and history.loss:
        figures["loss.png"] = loss_curve(
            np.array(history.loss),
            _padded([fold.validation_loss for fold in fitted.folds]),
            best_epoch=history.best_epoch,
            loss_name=fitted.model.loss_name,
            log=config.plotting.use_log_loss,
            title=f"{label}: loss",
        )
    if config.plotting.plot_accuracy and history.accuracy:
        figures["accuracy.png"] = accuracy_curve(
            np.array(history.accuracy),
            _padded([fold.validation_accuracy for fold in fitted.folds]),
            name="share of values within 0.02",
            title=f"{label}: accuracy",
        )
    if folds:
        figures["reconstructions.png"] = reconstruction_strip(
            **strip(inputs, errors, folds, list(calibrations.values()), distances=distances),
            title=f"{label}: {inputs.channels[0]} of good parts, by models that did not see them",
            error_name="distance from good parts" if distances else "error (RMS over channels)",
        )
    for stale in _FIGURES:
        (folder / stale).unlink(missing_ok=True)
    for name, figure in figures.items():
        write_figure(folder / name, figure)
    return [folder / name for name in figures]


def strip(
    inputs: InputSet,
    errors: NDArray[np.float32],
    folds: Sequence[Rows],
    calibrations: Sequence[Calibration],
    *,
    distances: bool = False,
) -> dict[str, Any]:
    """The good parts of the worst, median and best score for ``reconstruction_strip``: input, reconstruction, error.

    ``distances``: the errors are distances, and there is no reconstruction.
    """
    rows, scores = [], []
    for index, calibration in enumerate(calibrations):
        if own := of_type(inputs, index, folds):
            rows.append(np.concatenate(own))
            scores.append(calibration.scores)
    order = np.argsort(np.concatenate(scores))[[-1, len(np.concatenate(scores)) // 2, 0]]
    chosen, values = np.concatenate(rows)[order], np.concatenate(scores)[order]
    shown: list[list[NDArray[np.float32]]] = [[], [], []]
    for row, place in zip(chosen, places(chosen, folds), strict=True):
        image, error = inputs.images(row[None])[0], errors[place]
        rms = np.sqrt(np.einsum("hwc,hwc->hw", error, error) / error.shape[-1])
        for column, picture in zip(shown, (image[..., 0], image[..., 0] - error[..., 0], rms), strict=True):
            column.append(_shrunk(picture))
    return {
        "input_size": inputs.shape[1::-1],
        "inputs": np.stack(shown[0]),
        "reconstructions": None if distances else np.stack(shown[1]),
        "errors": np.stack(shown[2]),
        "names": [
            f"{kind}, score {value:.2f}: {inputs.names[row]}"
            for kind, value, row in zip(("worst", "median", "best"), values, chosen, strict=True)
        ],
    }


def _shrunk(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture (H, W) with no more pixels than are seen, whatever it is of."""
    scale = _SEEN / max(values.shape)
    if scale >= 1:
        return values
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32)


def _padded(curves: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
    """Curves as (n, longest), NaN after each end; None where there are none."""
    longest = max((len(curve) for curve in curves), default=0)
    if not longest:
        return None
    return np.array([[*curve, *[np.nan] * (longest - len(curve))] for curve in curves], np.float64)
