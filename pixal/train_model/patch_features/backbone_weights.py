"""The weights of a frozen backbone: by name, from a local file, or random. Nothing here reads a pickle."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pixal.errors import ConfigError, ModelError
from pixal.io.files import file_hash
from pixal.train_model.patch_features.backbones import Backbone, build_backbone

_log = logging.getLogger(__name__)

_KEY = "model_training.model_options.weights"
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")
_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Of the published files; of resnet34's none was at hand.
_SHA256 = {
    "resnet18": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet50": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    "wide_resnet50_2": "df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c",
}
_PATIENCE = 20.0  # seconds without an answer: a shut network may never give one


def load_backbone(
    name: str, size: tuple[int, int], layers: Sequence[str] | None, weights: str, seed: int
) -> tuple[Backbone, dict[str, str]]:
    """The backbone (``build_backbone``) with its weights, and what they are: ``source`` and ``sha256``.

    ``weights``: "imagenet", "random" (He-normal of ``seed``), or a file: .safetensors with torchvision's names for a
    ResNet; .weights.h5, .h5 or .keras for ``keras.applications``. The hash is that of the file, or else of the weights.
    Raises ConfigError for a file of another kind, ModelError where weights are missing or do not match.
    """
    if weights == "random":
        backbone = build_backbone(name, size, layers)
        _draw(backbone.model, seed)
        return backbone, {"source": f"random, seed {seed}", "sha256": _hash_of(backbone.model)}
    if weights == "imagenet":
        return _imagenet(name, size, layers)
    backbone = build_backbone(name, size, layers)
    path = Path(weights).expanduser()
    _load_file(backbone, path)
    return backbone, {"source": str(path), "sha256": file_hash(path)}


def weights_folder() -> Path:
    """Where weights by name are looked up, and downloaded to: Keras's cache, ``KERAS_HOME`` or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _imagenet(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> tuple[Backbone, dict[str, str]]:
    backbone = build_backbone(name, size, layers)
    if not backbone.is_resnet:
        with _downloading(backbone.name, None, None):
            backbone = build_backbone(name, size, layers, weights="imagenet")
        return backbone, {"source": "imagenet, keras.applications", "sha256": _hash_of(backbone.model)}
    url = f"https://huggingface.co/timm/{backbone.name}.tv_in1k/resolve/main/model.safetensors"
    file_name = f"{backbone.name}.tv_in1k.safetensors"
    if not (weights_folder() / file_name).is_file():
        _log.info("downloading the ImageNet weights of %s from %s", backbone.name, url)
    place = {"cache_dir": weights_folder().parent, "cache_subdir": "models"}
    with _downloading(backbone.name, url, file_name):
        path = Path(keras.utils.get_file(file_name, url, file_hash=_SHA256.get(backbone.name), **place))
    _load_file(backbone, path)
    return backbone, {"source": f"imagenet, {url}", "sha256": file_hash(path)}


@contextmanager
def _downloading(name: str, url: str | None, file_name: str | None) -> Iterator[None]:
    """Let Keras download, without what it prints. Raises ModelError, with what to fetch by hand, where it cannot."""
    timeout, talks = socket.getdefaulttimeout(), keras.utils.is_interactive_logging_enabled()
    socket.setdefaulttimeout(_PATIENCE)
    keras.utils.disable_interactive_logging()
    try:
        yield
    except Exception as error:  # Keras raises nothing narrower where it cannot download
        named = re.search(r"https?://[^\s]+?(?=:?\s|$)", str(error))
        url = url or (named[0] if named else "its file")
        reason = (" ".join(str(error).split()) or type(error).__name__).rsplit(" -- ", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} are not on this machine and cannot be downloaded ({reason}): "
            f"put {url} at {weights_folder() / (file_name or url.rsplit('/', 1)[-1])}, or name a file in {_KEY}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        if talks:
            keras.utils.enable_interactive_logging()


def _load_file(backbone: Backbone, path: Path) -> None:
    kinds = [".safetensors"] if backbone.is_resnet else [".weights.h5", ".h5", ".keras"]
    if path.suffix in _PICKLES:
        raise ConfigError(
            f"{_KEY}: {path} is a pickle, which may run any code; convert it where you trust it, in Python: "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')"
        )
    if not path.name.endswith(tuple(kinds)):
        raise ConfigError(
            f"{_KEY}: {path} is neither 'imagenet' nor 'random' nor a file that {backbone.name} takes "
            f"({', '.join(kinds)})"
        )
    if not path.is_file():
        raise ModelError(f"{_KEY}: {path} does not exist")
    try:
        if backbone.is_resnet:
            _load_safetensors(backbone.model, path)
        elif path.suffix == ".keras":
            _load_model(backbone.whole, path)
        else:
            with warnings.catch_warnings():
                # Keras would go on with new weights for what a file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                backbone.whole.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, UserWarning) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{_KEY}: {path} does not hold the weights of {backbone.name} ({reason})") from error


def _load_safetensors(model: Any, path: Path) -> None:
    """Set the weights of a ResNet, whose layers have torchvision's names, from a file with those."""
    with safe_open(str(path), framework="numpy") as file:
        for layer in model.layers:
            for variable in layer.weights:
                part = variable.name.rsplit("/", 1)[-1]
                values = file.get_tensor(f"{layer.name}.{_PARTS.get(part, 'weight')}")
                if part == "kernel":
                    values = values.transpose(2, 3, 1, 0)  # (O, I, h, w) to (h, w, I, O)
                if values.shape != tuple(variable.shape):
                    raise ValueError(f"{layer.name}: {values.shape} where {tuple(variable.shape)} is expected")
                variable.assign(values.astype(np.float32))


def _load_model(whole: Any, path: Path) -> None:
    source = keras.saving.load_model(path, compile=False, safe_mode=True)
    for layer in whole.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def _draw(model: Any, seed: int) -> None:
    """Draw all kernels (He et al. 2015): normal, with variance 2 / fan-in. What normalises is left the identity."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        name = variable.name.rsplit("/", 1)[-1]
        if name.endswith("kernel"):
            fan_in = int(np.prod(variable.shape[:2] if "depthwise" in name else variable.shape[:-1]))
            values = generator.standard_normal(tuple(variable.shape), np.float32)
            variable.assign(values * np.float32(np.sqrt(2 / fan_in)))


def _hash_of(model: Any) -> str:
    found = hashlib.sha256()
    for variable in model.weights:
        values: NDArray[Any] = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        found.update(values.tobytes())
    return found.hexdigest()
