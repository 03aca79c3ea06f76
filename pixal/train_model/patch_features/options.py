"""The options of the families of patch features, and what their fit stores."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pixal.config.section import Count, Fraction, Section
from pixal.train_model.patch_features.weights_location import default_backbone
from pixal.train_model.specification import ModelSpecification

Size = Count | Annotated[list[Count], Field(min_length=2, max_length=2)]


class PatchOptions(Section):
    """The options that all families of patch features have.

    Attributes:
        backbone: A name in ``backbones.own_networks`` or ``keras.applications``.
        weights: ``imagenet``, ``random``, or a weights file.
        layers: The layers whose feature maps are used; None: the family's choice.
        resize: Length of the shorter side, or (height, width), to which an image is resized; see ``features.Frame``.
        cropsize: Side of a square, or (height, width), to which it is then cropped.
        smoothing: Sigma of the Gaussian that smooths the error map, in input pixels.
        flip_horizontal: Probability that a good image is mirrored left to right for a fit.
        flip_vertical: Probability that a good image is mirrored top to bottom for a fit.
    """

    backbone: str = Field(default_factory=default_backbone)
    weights: str = "imagenet"
    layers: Annotated[list[str], Field(min_length=1)] | None = None
    resize: Size | None = None
    cropsize: Size | None = None
    smoothing: Annotated[float, Field(ge=0)] = 0.0
    flip_horizontal: Fraction = 0.0
    flip_vertical: Fraction = 0.0


class PatchSpecification(ModelSpecification):
    """The specification of a model of patch features.

    Attributes:
        backbone_weights: ``source`` and ``sha256`` of the backbone's weights, found by the fit; None before it.
    """

    backbone_weights: dict[str, str] | None = None
