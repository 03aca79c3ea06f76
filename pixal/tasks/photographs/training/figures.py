"""Choose the data of the training figures, and write their files; ``pixal.plotting`` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.inputs import InputSet
from pixal.io import ownership
from pixal.io.images import write_figure
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.family import Rows, as_anomaly_model
from pixal.train_model.folds import Fitted, folds_of_type, held_out_positions

_MAX_SIDE = 1200  # pixels of an image's longer side; more would not be visible in the figure
_FIGURES = ("loss.png", "accuracy.png", "reconstructions.png")


@dataclass(frozen=True)
class HeldOutExamples:
    """The held-out good parts with the worst, the median and the best score, reduced to at most 1200 pixels per side.

    Attributes:
        names: The rank, the score and the file name of each of the 3 parts.
        inputs: The first channel of the inputs, (3, H, W).
        reconstructions: The first channel of the reconstructions, (3, H, W); None if the errors are distances.
        errors: The errors, root mean square over the channels, (3, H, W).
        input_size: Width and height of the inputs before reduction, pixels.
    """

    names: list[str]
    inputs: NDArray[np.float32]
    reconstructions: NDArray[np.float32] | None
    errors: NDArray[np.float32]
    input_size: tuple[int, int]


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
    """Write the loss and accuracy curves that the settings ask for, and the reconstructions of held-out good parts.

    Args:
        folder: The folder of the figures. Figures of an earlier training are removed.
        label: The name of the model in titles.
        fitted: The fitted model.
        inputs: The good parts.
        errors: The errors of the held-out parts, (N, H, W, C), in the order of their rows.
        folds: The rows of each fold; if there is none, there are no reconstructions.
        calibrations: The calibration of each type.
        config: The configuration.

    Returns:
        The files written.
    """
    from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip

    history, figures, distances = fitted.history, {}, as_anomaly_model(fitted.model).gives_distance
    if config.plotting.plot_loss and history.loss:
        figures["loss.png"] = loss_curve(
            np.array(history.loss),
            _pad([fold.validation_loss for fold in fitted.fold_histories]),
            best_epoch=history.best_epoch,
            loss_name=fitted.model.loss_name,
            log=config.plotting.use_log_loss,
            title=f"{label}: loss",
        )
    if config.plotting.plot_accuracy and history.accuracy:
        figures["accuracy.png"] = accuracy_curve(
            np.array(history.accuracy),
            _pad([fold.validation_accuracy for fold in fitted.fold_histories]),
            name="share of values within 0.02",
            title=f"{label}: accuracy",
        )
    if folds:
        examples = held_out_examples(inputs, errors, folds, list(calibrations.values()), distances=distances)
        figures["reconstructions.png"] = reconstruction_strip(
            examples.inputs,
            examples.reconstructions,
            examples.errors,
            examples.names,
            title=f"{label}: {inputs.channels[0]} of good parts, by models that did not see them",
            error_name="distance from good parts" if distances else "error (RMS over channels)",
            input_size=examples.input_size,
        )
    for old_figure in _FIGURES:
        ownership.remove(folder / old_figure)
    for name, figure in figures.items():
        write_figure(folder / name, figure)
    return [folder / name for name in figures]


def held_out_examples(
    inputs: InputSet,
    errors: NDArray[np.float32],
    folds: Sequence[Rows],
    calibrations: Sequence[Calibration],
    *,
    distances: bool = False,
) -> HeldOutExamples:
    """Select the held-out good parts with the worst, the median and the best score.

    Args:
        inputs: The good parts.
        errors: The errors of the held-out parts, (N, H, W, C), in the order of their rows.
        folds: The rows of each fold; at least one.
        calibrations: The calibration of each type, in the order of the types.
        distances: Whether the errors are distances, without a reconstruction.
    """
    type_rows, type_scores = [], []
    for index, calibration in enumerate(calibrations):
        if type_folds := folds_of_type(inputs, index, folds):
            type_rows.append(np.concatenate(type_folds))
            type_scores.append(calibration.all_scores)
    rows, scores = np.concatenate(type_rows), np.concatenate(type_scores)
    order = np.argsort(scores)[[-1, len(scores) // 2, 0]]
    rows, scores = rows[order], scores[order]
    images, reconstructions, error_maps = [], [], []
    for row, error_row in zip(rows, held_out_positions(rows, folds), strict=True):
        image, error = inputs.images(row[None])[0], errors[error_row]
        images.append(_reduce(image[..., 0]))
        reconstructions.append(_reduce(image[..., 0] - error[..., 0]))
        error_maps.append(_reduce(np.sqrt(np.einsum("hwc,hwc->hw", error, error) / error.shape[-1])))
    return HeldOutExamples(
        names=[
            f"{rank}, score {score:.2f}: {inputs.names[row]}"
            for rank, score, row in zip(("worst", "median", "best"), scores, rows, strict=True)
        ],
        inputs=np.stack(images),
        reconstructions=None if distances else np.stack(reconstructions),
        errors=np.stack(error_maps),
        input_size=(inputs.shape[1], inputs.shape[0]),
    )


def _reduce(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce (H, W) so that the longer side has at most ``_MAX_SIDE`` pixels."""
    scale = _MAX_SIDE / max(values.shape)
    if scale >= 1:
        return values
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32)


def _pad(curves: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
    """Return curves as (N, longest), padded with NaN; None if all are empty."""
    longest = max((len(curve) for curve in curves), default=0)
    if not longest:
        return None
    return np.array([[*curve, *[np.nan] * (longest - len(curve))] for curve in curves], np.float64)
