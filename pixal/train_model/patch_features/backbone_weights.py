"""The weights of a frozen backbone: by name, from a local file, or random. Pickles are never read."""

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
# The names of Keras's weights in torchvision's files.
_TORCH_NAMES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Hashes of the published files. The file of resnet34 was not available for a check.
_SHA256 = {
    "resnet18": "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
    "resnet50": "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
    "wide_resnet50_2": "df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c",
}
_TIMEOUT = 20.0  # seconds without an answer; a blocked network may never answer


def load_backbone(
    name: str, size: tuple[int, int], layers: Sequence[str] | None, weights: str, seed: int
) -> tuple[Backbone, dict[str, str]]:
    """Build a backbone and load its weights.

    Args:
        name: See ``build_backbone``.
        size: See ``build_backbone``.
        layers: See ``build_backbone``.
        weights: ``imagenet``, ``random`` (He-normal), or the path of a file: for a ResNet, ``.safetensors`` with
            torchvision's names; for ``keras.applications``, ``.weights.h5``, ``.h5`` or ``.keras``.
        seed: Seed of random weights.

    Returns:
        The backbone, and a record of its weights: ``source`` and ``sha256``. The hash is that of the file if there is
        one, otherwise of the weights.

    Raises:
        ConfigError: The file has an unsupported format.
        ModelError: The weights are missing or do not match the network.
    """
    if weights == "random":
        backbone = build_backbone(name, size, layers)
        _draw_weights(backbone.model, seed)
        return backbone, {"source": f"random, seed {seed}", "sha256": _weights_hash(backbone.model)}
    if weights == "imagenet":
        return _load_imagenet(name, size, layers)
    backbone = build_backbone(name, size, layers)
    path = Path(weights).expanduser()
    _load_file(backbone, path)
    return backbone, {"source": str(path), "sha256": file_hash(path)}


def weights_folder() -> Path:
    """The folder of downloaded weights: Keras's cache, in ``KERAS_HOME`` or ``~/.keras``."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"


def _load_imagenet(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> tuple[Backbone, dict[str, str]]:
    backbone = build_backbone(name, size, layers)
    if not backbone.is_resnet:
        with _downloading(backbone.name, None, None):
            backbone = build_backbone(name, size, layers, weights="imagenet")
        return backbone, {"source": "imagenet, keras.applications", "sha256": _weights_hash(backbone.model)}
    url = f"https://huggingface.co/timm/{backbone.name}.tv_in1k/resolve/main/model.safetensors"
    file_name = f"{backbone.name}.tv_in1k.safetensors"
    if not (weights_folder() / file_name).is_file():
        _log.info("downloading the ImageNet weights of %s from %s", backbone.name, url)
    cache = {"cache_dir": weights_folder().parent, "cache_subdir": "models"}
    with _downloading(backbone.name, url, file_name):
        path = Path(keras.utils.get_file(file_name, url, file_hash=_SHA256.get(backbone.name), **cache))
    _load_file(backbone, path)
    return backbone, {"source": f"imagenet, {url}", "sha256": file_hash(path)}


@contextmanager
def _downloading(name: str, url: str | None, file_name: str | None) -> Iterator[None]:
    """Let Keras download a file, without its output on the terminal.

    Args:
        name: The name of the backbone.
        url: The address of the file; None: the address in Keras's error message.
        file_name: The name of the file in ``weights_folder``; None: the last part of the address.

    Raises:
        ModelError: The download failed. The message says which file to download by hand, and where to put it.
    """
    timeout, was_interactive = socket.getdefaulttimeout(), keras.utils.is_interactive_logging_enabled()
    socket.setdefaulttimeout(_TIMEOUT)
    keras.utils.disable_interactive_logging()
    try:
        yield
    except Exception as error:  # Keras raises a plain Exception if a download fails
        mentioned = re.search(r"https?://[^\s]+?(?=:?\s|$)", str(error))
        url = url or (mentioned[0] if mentioned else "its file")
        reason = (" ".join(str(error).split()) or type(error).__name__).rsplit(" -- ", 1)[-1]
        raise ModelError(
            f"the ImageNet weights of {name} are not on this machine and cannot be downloaded ({reason}); "
            f"save {url} as {weights_folder() / (file_name or url.rsplit('/', 1)[-1])}, or set {_KEY} to a file"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        if was_interactive:
            keras.utils.enable_interactive_logging()


def _load_file(backbone: Backbone, path: Path) -> None:
    """Load a weights file. Raises ConfigError or ModelError; see ``load_backbone``."""
    endings = [".safetensors"] if backbone.is_resnet else [".weights.h5", ".h5", ".keras"]
    if path.suffix in _PICKLES:
        raise ConfigError(
            f"{_KEY}: {path} is a pickle file, which can run any code; if you trust it, convert it in Python: "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'weights.safetensors')"
        )
    if not path.name.endswith(tuple(endings)):
        raise ConfigError(
            f"{_KEY}: {path} is not 'imagenet', not 'random' and not a file that {backbone.name} accepts "
            f"({', '.join(endings)})"
        )
    if not path.is_file():
        raise ModelError(f"{_KEY}: {path} does not exist")
    try:
        if backbone.is_resnet:
            _load_safetensors(backbone.model, path)
        elif path.suffix == ".keras":
            _load_model(backbone.complete_model, path)
        else:
            with warnings.catch_warnings():
                # Otherwise Keras keeps random weights for layers that the file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                backbone.complete_model.load_weights(path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, UserWarning) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{_KEY}: {path} does not contain the weights of {backbone.name} ({reason})") from error


def _load_safetensors(model: keras.Model, path: Path) -> None:
    """Load the weights of a ResNet from a file with torchvision's names."""
    with safe_open(str(path), framework="numpy") as file:
        for layer in model.layers:
            for variable in layer.weights:
                kind = variable.name.rsplit("/", 1)[-1]
                values = file.get_tensor(f"{layer.name}.{_TORCH_NAMES.get(kind, 'weight')}")
                if kind == "kernel":
                    values = values.transpose(2, 3, 1, 0)  # (O, I, h, w) to (h, w, I, O)
                if values.shape != tuple(variable.shape):
                    raise ValueError(f"{layer.name} has the shape {values.shape} instead of {tuple(variable.shape)}")
                variable.assign(values.astype(np.float32))


def _load_model(model: keras.Model, path: Path) -> None:
    """Copy the weights of a ``.keras`` file, layer by layer."""
    source = keras.saving.load_model(path, compile=False, safe_mode=True)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def _draw_weights(model: keras.Model, seed: int) -> None:
    """Draw all kernels from a normal distribution with variance 2 / fan-in (He et al. 2015).

    Normalisation layers are not changed: new ones are the identity.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        name = variable.name.rsplit("/", 1)[-1]
        if name.endswith("kernel"):
            fan_in = int(np.prod(variable.shape[:2] if "depthwise" in name else variable.shape[:-1]))
            values = generator.standard_normal(tuple(variable.shape), np.float32)
            variable.assign(values * np.float32(np.sqrt(2 / fan_in)))


def _weights_hash(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for variable in model.weights:
        values: NDArray[Any] = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(values.tobytes())
    return digest.hexdigest()
