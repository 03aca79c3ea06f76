"""The options of PaDiM."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pixal.config.section import Count, Positive
from pixal.train_model.patch_features.options import PatchOptions


class PadimOptions(PatchOptions):
    """The settings of ``model_training.model_options``; see ``docs/models.md``.

    Attributes:
        features: The number of channels of each level that are kept, drawn by ``seed``; None: all.
        levels: The levels that are used; None: all. Not with ``layers``, which are one level.
        shrinkage: What is added to each variance of a cell, as a fraction of the cell's mean variance over channels, or
            of the mean over all cells if that is larger.
        regularisation: A value that is added to each variance besides.
    """

    features: Count | None = None
    levels: Annotated[list[Literal["fine", "middle", "coarse"]], Field(min_length=1)] | None = None
    shrinkage: Positive = 0.1
    regularisation: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check_levels(self) -> PadimOptions:
        if self.levels and self.layers:
            raise ValueError("levels cannot be chosen when layers are named, because these are one level")
        return self
