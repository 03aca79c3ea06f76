"""A numeric ``loss_cut``: the loss of parts without calibration, and a warning if the cut finds nothing."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.maps import part_scores, raw_maps
from pixal.calibration.spread import Maps
from pixal.io.arrays import release_pages
from pixal.train_model.specification import ModelSpecification

_LEAST = 1e-12  # whose logarithm stands for that of 0


def raw_losses(errors: Maps, specification: ModelSpecification) -> Maps:
    """Return the loss (n, H, W, C) of errors (n, H, W, C), value by value; a distance is a loss already."""
    if specification.gives_distance:
        return errors
    if specification.loss_function in ("mse", "masked_mse"):
        return np.square(errors)
    from pixal.train_model.keras_training.losses import pointwise_loss

    return np.asarray(pointwise_loss(specification.loss_function, specification.huber_delta)(errors))


def part_losses(
    errors: Maps,
    rows: NDArray[np.intp],
    specification: ModelSpecification,
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
) -> NDArray[np.float64]:
    """Return the loss of good parts, (n,), to which a numeric ``loss_cut`` is compared.

    One error is in memory at a time.

    Args:
        errors: The errors of held-out good parts, (N, H, W, C).
        rows: The rows of the n parts in ``errors``.
        specification: What the model was built from.
        mask: (H, W), the pixels of the part.
        weights: (C,), the weight of each channel.
        smoothing: The Gaussian sigma of the maps, input pixels.
    """
    losses = np.empty(len(rows))
    for index, row in enumerate(rows):
        losses[index] = part_scores(raw_maps(raw_losses(errors[row][None], specification), mask, weights, smoothing))[0]
        release_pages(errors)
    return losses


def log_losses(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the decimal logarithm of losses of at least 0."""
    return np.asarray(np.log10(np.maximum(losses, _LEAST)), np.float64)


def loss_cut_warning(loss_cut: float | Literal["auto"], losses: NDArray[np.float64], *, log_loss: bool) -> str | None:
    """Return a warning if ``loss_cut`` is above the loss of every good part: then it may let defects pass.

    Args:
        loss_cut: ``plotting.loss_cut``.
        losses: The losses of held-out good parts, (N,); empty if they are not known.
        log_loss: Whether ``loss_cut`` is the decimal logarithm of the loss.
    """
    if loss_cut == "auto" or not len(losses):
        return None
    values = log_losses(losses) if log_loss else losses
    low, high = float(values.min()), float(values.max())
    if loss_cut <= high:
        return None
    unit = "decimal logarithm of the loss, as use_log_loss is True" if log_loss else "loss, as use_log_loss is False"
    return (
        f"plotting.loss_cut {loss_cut:g} is above all that held-out good parts showed at training, {low:.4g} to "
        f"{high:.4g} ({unit}), so that defects may pass; set it to about {high:.4g}, or to auto"
    )
