"""The options of the autoencoder."""

from __future__ import annotations

from typing import Literal

from pixal.config.section import Section


class AutoencoderOptions(Section):
    """The settings of ``model_training.model_options``; see ``docs/models.md``.

    Attributes:
        output: What the network gives: an image (``values``), or also the standard deviation of each value
            (``gaussian``).
    """

    output: Literal["values", "gaussian"] = "values"
