"""The options of PatchCore."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pixal.config.section import Count
from pixal.train_model.patch_features.options import PatchOptions


class PatchcoreOptions(PatchOptions):
    """The settings of ``model_training.model_options``; see ``docs/models.md``.

    Attributes:
        coreset: The share of all good patches that the memory keeps, chosen so that they cover all of them.
        patches: The largest number of patches that the memory keeps if ``coreset`` is 1; more are drawn by ``seed``.
    """

    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0
    patches: Count = 20_000
