"""The options of PaDiM."""

from __future__ import annotations

from pixal.config.section import Count, Positive
from pixal.train_model.patch_features.options import PatchOptions


class PadimOptions(PatchOptions):
    """The settings of ``model_training.model_options``; see ``docs/models.md``.

    Attributes:
        features: The number of channels of the feature maps that are kept, drawn by ``seed``; None: the number in the
            paper for the backbone, 100 for others.
        regularisation: The value that is added to each variance.
    """

    features: Count | None = None
    regularisation: Positive = 0.01
