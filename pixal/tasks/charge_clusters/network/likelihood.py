"""The 14 outputs of a network: the mean and the covariance of four targets, and the likelihood of the truth.

The targets are x, y, cot alpha and cot beta, each divided by its scale. The outputs p0 to p13 are
x, L11, y, L22, cot alpha, L33, cot beta, L44, L21, L31, L32, L41, L42, L43: means, and the lower triangular Cholesky
factor L of the covariance L Lᵀ (Mach. Learn.: Sci. Technol. 2024, doi 10.1088/2632-2153/ad6a00).
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

OUTPUTS, TARGETS = 14, 4
MEANS, DIAGONAL = [0, 2, 4, 6], [1, 3, 5, 7]
PLACES = [(0, 0), (1, 1), (2, 2), (3, 3), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
"""Row and column in L of the outputs p1, p3, p5, p7, p8, ..., p13."""

SMALLEST_DIAGONAL = 1e-2
"""Added to the diagonal of L. With much less, one event with a diagonal of 0 outweighs all others in a batch."""

FIRST_DIAGONAL = 0.5
"""The diagonal before training, in scaled units, in which targets range from -1 to 1."""


def split_output(outputs: Any) -> tuple[Any, Any]:
    """Return the mean (n, 4) and the Cholesky factor L of the covariance (n, 4, 4), in scaled units.

    The diagonal of L is ``max(p, 0) + SMALLEST_DIAGONAL``, so L Lᵀ is positive definite. Its gradient is 1 also for
    p < 0: events with an impossible diagonal are trained, too.

    Args:
        outputs: The outputs of a network, (n, 14), a Keras tensor or a NumPy array; the results are of the same kind.
    """
    if isinstance(outputs, np.ndarray):
        mean, cholesky = _split(ops.convert_to_tensor(outputs))
        return ops.convert_to_numpy(mean), ops.convert_to_numpy(cholesky)
    return _split(outputs)


@keras.saving.register_keras_serializable("pixal")  # type: ignore[untyped-decorator]
def negative_log_likelihood(y_true: Any, y_pred: Any) -> Any:
    """The negative logarithm of the normal density N(y; mean, L Lᵀ) of each event, (n,).

    ``|L⁻¹ (y - mean)|²/2 + log det L + 2 log 2 pi``, with L⁻¹ (y - mean) by a triangular solve: nothing is
    exponentiated, so far outliers have a finite loss and a gradient.

    Args:
        y_true: Scaled targets, (n, 4).
        y_pred: The outputs of a network, (n, 14).
    """
    mean, cholesky = _split(ops.cast(y_pred, "float32"))
    residuals = ops.cast(y_true, "float32") - mean
    pulls = ops.solve_triangular(cholesky, residuals[..., None], lower=True)[..., 0]
    log_determinant = ops.sum(ops.log(ops.diagonal(cholesky, axis1=1, axis2=2)), axis=1)
    return 0.5 * ops.sum(ops.square(pulls), axis=1) + log_determinant + TARGETS / 2 * math.log(2 * math.pi)


class WarmUpLikelihood:
    """``negative_log_likelihood``, or that of a fixed covariance, whose minimum is that of the squared error.

    The likelihood weights the residual of a target with its inverse variance. So targets that are hard to learn, such
    as the angles, have small gradients beside those that are learned first, and can stay at their mean. With a fixed
    covariance all scaled targets have the same weight.

    Attributes:
        is_warm_up: A variable, True for a covariance of ``FIRST_DIAGONAL`` squared times the unit matrix.
    """

    __name__ = "negative_log_likelihood"

    def __init__(self) -> None:
        self.is_warm_up = keras.Variable(False, dtype="bool", trainable=False, name="is_warm_up")

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each event, (n,). See ``negative_log_likelihood``."""
        first = [FIRST_DIAGONAL - SMALLEST_DIAGONAL if output in DIAGONAL else 0.0 for output in range(OUTPUTS)]
        is_fixed = ops.logical_and(self.is_warm_up, [output not in MEANS for output in range(OUTPUTS)])
        return negative_log_likelihood(y_true, ops.where(is_fixed, ops.cast(first, y_pred.dtype), y_pred))


def first_weights() -> dict[str, Any]:
    """Initializers of the last layer: means near 0, a diagonal near ``FIRST_DIAGONAL``.

    With the usual ones, many events would have an impossible diagonal at first, and losses of 1e6 and more.
    """
    bias = [FIRST_DIAGONAL if output in DIAGONAL else 0.0 for output in range(OUTPUTS)]
    return {
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.05),
        "bias_initializer": keras.initializers.Constant(bias),
    }


def _split(outputs: Any) -> tuple[Any, Any]:
    mean = ops.matmul(outputs, ops.cast(_MEANS, outputs.dtype))
    entries = ops.matmul(outputs, ops.cast(_ENTRIES, outputs.dtype))
    diagonal = ops.cast(_ON_DIAGONAL, outputs.dtype)
    raised = ops.maximum(entries, 0.0) + SMALLEST_DIAGONAL
    raised = ops.stop_gradient(raised) + (entries - ops.stop_gradient(entries))
    return mean, ops.reshape(ops.where(diagonal > 0, raised, entries), (-1, TARGETS, TARGETS))


def _selection(columns: dict[int, int], width: int) -> NDArray[np.float32]:
    """A matrix (14, ``width``) that copies output i to column ``columns[i]``: a product, because it has a gradient."""
    matrix = np.zeros((OUTPUTS, width), np.float32)
    matrix[list(columns), list(columns.values())] = 1
    return matrix


_MEANS = _selection({output: target for target, output in enumerate(MEANS)}, TARGETS)
_ENTRIES = _selection(
    {
        output: TARGETS * row + column
        for output, (row, column) in zip([*DIAGONAL, *range(8, OUTPUTS)], PLACES, strict=True)
    },
    TARGETS**2,
)
_ON_DIAGONAL = np.eye(TARGETS, dtype=np.float32).reshape(-1)
