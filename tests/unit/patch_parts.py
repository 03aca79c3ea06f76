"""Small parts, and families of patch features built for them, for the tests of each such family."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.inputs import InputSet
from pixal.train_model.patch_features.backbones import ResNet
from pixal.train_model.patch_features.patch_model import PatchModel

SHAPE = (36, 52, 3)
TINY = ResNet((1, 1), bottleneck=False, width=4)

Family = TypeVar("Family", bound=PatchModel)


def built(family: type[Family], name: str, types: tuple[str, ...], memory_limit: float, options: Any) -> Family:
    """A family on the backbone "tiny" with random weights."""
    own = {"backbone": "tiny", "weights": "random"} | options
    settings = ModelTraining.model_validate({"model": name, "model_name": "flex", "model_options": own})
    described = {
        "shape": list(SHAPE),
        "channels": list("RGB"),
        "channel_weights": [1.0] * 3,
        "input_dim": int(np.prod(SHAPE)),
        "types": list(types),
        "memory_limit": memory_limit,
    }
    return family(settings.model_dump() | described)


def input_set(images: NDArray[np.float32], types: tuple[str, ...] = (), labels: Any = None) -> InputSet:
    """Images (n, H, W, 3) as inputs; ``labels``: numbers of their ``types``."""
    names = tuple(f"{number}.png" for number in range(len(images)))
    one_hot = None if labels is None else np.eye(len(types), dtype=np.float32)[labels]
    return InputSet(images.reshape(len(images), -1), SHAPE, ("R", "G", "B"), names, one_hot, types)


def part() -> NDArray[np.bool_]:
    """Where the part is, (H, W)."""
    mask = np.zeros(SHAPE[:2], bool)
    mask[6:-4, 5:-9] = True
    return mask
