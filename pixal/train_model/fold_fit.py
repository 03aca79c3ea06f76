"""A fit without one fold, as a function that can be sent to another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.family import FitControl, ModelFamily, Rows, as_anomaly_model
from pixal.train_model.history import History
from pixal.train_model.specification import ModelSpecification


@dataclass(frozen=True)
class FoldResult:
    """A fit without one fold.

    Attributes:
        history: The history of the fit.
        specification: The model's specification after the fit, as JSON values.
        errors: The errors of the fold, (n, H, W, C).
    """

    history: History
    specification: dict[str, Any]
    errors: NDArray[np.float32]


class FoldFit:
    """Fits a model without one fold, and measures the errors of the fold."""

    def __init__(
        self,
        family: type[ModelFamily],
        specification: ModelSpecification,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        row_sets: Sequence[Rows],
    ) -> None:
        """Prepare to be sent.

        Args:
            family: The model family.
            specification: What the model is built from.
            inputs: The good parts.
            masks: The consensus mask of each type, (T, H, W).
            folds: The rows to hold out, fit by fit.
            row_sets: The rows of every fit, as ``ModelFamily.prepare_fits`` gets them.
        """
        self._family, self._specification = family, specification
        self._inputs, self._masks, self._folds, self._row_sets = inputs, masks, folds, row_sets

    def __call__(self, index: int) -> FoldResult:
        """Fit without the fold ``index``."""
        self._family.set_up(self._specification)
        model, fold = self._family(self._specification), self._folds[index]
        model.prepare_fits(self._inputs, self._row_sets)
        history = model.fit(self._inputs, self._row_sets[index], self._masks, FitControl(validation_rows=fold))
        anomaly_model = as_anomaly_model(model)
        errors = [anomaly_model.error(self._inputs, rows) for rows in self._inputs.iterate_chunks(fold)]
        return FoldResult(history, model.spec.model_dump(mode="json"), np.concatenate(errors))
