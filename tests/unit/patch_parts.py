"""Small images of parts, and models of patch features for them. Shared by the tests of these families."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.inputs import InputSet
from pixal.train_model.patch_features.patch_model import PatchModel
from pixal.train_model.patch_features.resnets import ResNet

SHAPE = (36, 52, 3)
TINY = ResNet((1, 1), bottleneck=False, width=4)

Family = TypeVar("Family", bound=PatchModel)


def built(family: type[Family], name: str, types: tuple[str, ...], memory_limit: float, options: Any) -> Family:
    """Create a model with the backbone "tiny" and random weights."""
    model_options = {"backbone": "tiny", "weights": "random"} | options
    settings = ModelTraining.model_validate({"model": name, "model_name": "flex", "model_options": model_options})
    description = {
        "shape": list(SHAPE),
        "channels": list("RGB"),
        "channel_weights": [1.0] * 3,
        "input_dim": int(np.prod(SHAPE)),
        "types": list(types),
        "memory_limit": memory_limit,
    }
    return family(settings.model_dump() | description)


def input_set(images: NDArray[np.float32], types: tuple[str, ...] = (), labels: Any = None) -> InputSet:
    """Images (n, H, W, 3) as inputs. ``labels`` holds the index of each image's type in ``types``."""
    names = tuple(f"{index}.png" for index in range(len(images)))
    one_hot = None if labels is None else np.eye(len(types), dtype=np.float32)[labels]
    return InputSet(images.reshape(len(images), -1), SHAPE, ("R", "G", "B"), names, one_hot, types)


def part() -> NDArray[np.bool_]:
    """The mask of the part, (H, W)."""
    mask = np.zeros(SHAPE[:2], bool)
    mask[6:-4, 5:-9] = True
    return mask
