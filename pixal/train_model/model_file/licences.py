"""The licences of pretrained weights, which travel with the models that hold them."""

from __future__ import annotations

from importlib import metadata

from pixal.train_model.patch_features.weights_location import LITE0_PACKAGE
from pixal.train_model.specification import ModelRecord

_NOTICES = {
    "resnet": "ImageNet weights of torchvision, converted by timm. Licence: BSD 3-Clause "
    "(https://github.com/pytorch/vision/blob/main/LICENSE).",
    "dinov2": "DINOv2, Copyright (c) Meta Platforms, Inc. and affiliates. Licence: Apache License 2.0 "
    "(https://www.apache.org/licenses/LICENSE-2.0).",
    "keras.applications": "Weights of keras.applications. Licence: Apache License 2.0 "
    "(https://www.apache.org/licenses/LICENSE-2.0); see https://keras.io/api/applications for each network.",
    "own": "These weights came from a file of the user. PIXAL does not know their licence: pass the model on only if "
    "you may pass on the weights.",
}


def weights_of(record: ModelRecord) -> tuple[dict[str, str], str]:
    """Source, SHA-256 and licence of the pretrained weights in a model, and the text of the licence.

    Both are empty if there are no such weights; random ones are nobody's work, and count as none.
    """
    stored = getattr(record, "backbone_weights", None)
    if not isinstance(stored, dict) or str(stored.get("source", "")).startswith("random"):
        return {}, ""
    source = str(stored.get("source"))
    text = _lite0_licence() if LITE0_PACKAGE in source else _notice(source, record)
    weights = {"source": source, "sha256": str(stored.get("sha256")), "licence": text.splitlines()[0]}
    return weights, f"{text}\n"


def _notice(source: str, record: ModelRecord) -> str:
    backbone = str(record.model_options.get("backbone", ""))
    if backbone.startswith("dinov2"):
        return _NOTICES["dinov2"]
    if not source.startswith("imagenet"):
        return _NOTICES["own"]
    return _NOTICES["keras.applications" if "keras.applications" in source else "resnet"]


def _lite0_licence() -> str:
    """The licence file of the package of the weights, or its name where the package is not installed."""
    try:
        files = metadata.files(LITE0_PACKAGE) or []
        texts = [file.read_text() for file in files if file.name.upper().startswith("LICENSE")]
    except (metadata.PackageNotFoundError, OSError):
        texts = []
    notice = "EfficientNet-Lite0, ImageNet weights. Licence: Apache License 2.0"
    return "\n\n".join([f"{notice} (https://www.apache.org/licenses/LICENSE-2.0).", *texts])
