"""The interface of a trained model that validation needs, with or without TensorFlow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.specification import ModelSpecification


class Predictor(ABC):
    """A trained model that shows where a part differs from good parts.

    Attributes:
        gives_distance: Whether ``error`` is a distance from good parts, (n, H, W, 1), instead of a difference in each
            channel, (n, H, W, C).
        gives_reconstruction: Whether a family that gives a distance also has reconstructions, in ``difference``.
        is_calibrated: Whether ``error`` is a distance in units of what good parts reach, the same at all pixels. The
            calibration then keeps it as it is.
        spec: The specification of the model.
    """

    gives_distance: ClassVar[bool] = False
    gives_reconstruction: ClassVar[bool] = False
    is_calibrated: ClassVar[bool] = False
    spec: ModelSpecification

    @property
    def rows_are_independent(self) -> bool:
        """Whether a part has the same error, to the last bit, whatever other parts are computed with it."""
        return False

    @abstractmethod
    def error(self, inputs: InputSet, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Compute how each part differs from good parts.

        Returns:
            Input minus reconstruction, (n, H, W, C), signed; or a distance of at least 0, (n, H, W, 1)
            (``gives_distance``).
        """

    def difference(self, inputs: InputSet, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, H, W, C). Override it where ``error`` is something else."""
        return self.error(inputs, rows)

    @abstractmethod
    def latent(self, inputs: InputSet, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """A vector that describes each part, (n, L)."""
