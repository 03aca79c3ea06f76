"""Model specifications for tests of single families."""

from __future__ import annotations

from typing import Any

from pixal.train_model.specification import ModelSpecification


def specification(shape: tuple[int, int, int], **changes: Any) -> ModelSpecification:
    """Return the specification of a model of the single type "front" with inputs of ``shape`` (H, W, C)."""
    height, width, channels = shape
    content = {
        "model": "gaussian",
        "model_name": "flex",
        "one_hot_encoding": False,
        "autoencoder_architecture": [8, 4],
        "input_dim": height * width * channels,
        "shape": shape,
        "channels": tuple("RGBabcdefg"[:channels]),
        "channel_weights": (1.0,) * channels,
        "types": ("front",),
        "memory_limit": 1.0,
    }
    return ModelSpecification.read(content | changes)
