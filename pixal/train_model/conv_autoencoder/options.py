"""The options of the convolutional autoencoder, and what its fit stores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pixal.config.section import Count, Section
from pixal.train_model.specification import ModelSpecification

# Channels of each stage; after each stage, height and width are halved. "large" has the channels of VGG16 (Simonyan and
# Zisserman 2015), 64 to 512 in five stages; "medium" has a quarter of them, and "redux" an eighth.
STAGES = {
    "redux": (8, 16, 32, 64, 64),
    "medium": (16, 32, 64, 128, 128),
    "large": (64, 128, 256, 512, 512),
}
_VALUES_PER_OUTPUT = 100  # values in memory in all stages per output value of the first stage; measured


class ConvAutoencoderOptions(Section):
    """The settings of ``model_training.model_options``; see ``docs/models.md``.

    Attributes:
        size: The width of the network.
        poolings: How often the network halves height and width.
        bottleneck: Channels of the bottleneck.
        dropout: Share of bottleneck channels that are set to 0 in training.
        tile: Height and width of a tile in pixels; None: the whole image.
        overlap: Least overlap of neighbouring tiles in pixels.
        tile_places: Where the training tiles are: at random positions on the part, or on the grid.
        output: What the network gives: an image (``values``), or also the standard deviation of each value
            (``gaussian``).
    """

    size: Literal["redux", "medium", "large"] = "redux"
    poolings: Annotated[int, Field(ge=1, le=5)] = 5
    bottleneck: Count = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tile: Annotated[int, Field(ge=16)] | None = 128
    overlap: Annotated[int, Field(ge=0)] = 32
    tile_places: Literal["random", "grid"] = "random"
    output: Literal["values", "gaussian"] = "values"

    @model_validator(mode="after")
    def _overlap_within_a_tile(self) -> ConvAutoencoderOptions:
        if self.tile is not None and 2 * self.overlap > self.tile:
            raise ValueError(f"an overlap of {self.overlap} is more than half a tile of {self.tile}")
        return self


class ConvSpecification(ModelSpecification):
    """The specification of a convolutional autoencoder.

    Attributes:
        spread: The root mean square deviation of good parts from their mean in each of the C channels, found by the
            fit; None before it.
    """

    spread: tuple[float, ...] | None = None


def step_bytes(height: int, width: int, size: str) -> float:
    """Estimate the memory of a training step per image of (height, width), without weights, in bytes."""
    return height * width * STAGES[size][0] * _VALUES_PER_OUTPUT * 4.0
