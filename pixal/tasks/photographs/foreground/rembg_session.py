"""Find the part with a network of rembg: its file, its session, and the alpha it computes."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.execution import processors
from pixal.io.files import file_hash
from pixal.tasks.photographs.settings import RemoveBackground

_KEY = "preprocessing.remove_background"
CUSTOM_MODELS = ("u2net_custom", "dis_custom", "ben_custom")  # rembg's names for a network of the user
UNSUITABLE = {
    "sam": "needs points or boxes that mark the part",
    "u2net_cloth_seg": "finds clothes",
    "atlascloud": "sends the photographs to a service",
    "withoutbg": "sends the photographs to a service",
}

_creation_lock = threading.Lock()


def rembg_alpha(image: NDArray[np.uint8], settings: RemoveBackground) -> NDArray[np.uint8]:
    """Compute the alpha of a photograph with a network of rembg.

    Args:
        image: (H, W, 3) RGB.
        settings: The model. With ``alpha_matting`` the edge is soft (closed-form matting, Levin et al., PAMI 2008),
            which takes seconds per photograph.

    Returns:
        (H, W) alpha; 0 or 255 without alpha matting.
    """
    from rembg import remove

    session = load_session(settings)
    with np.errstate(invalid="ignore"):  # rembg divides by the range of values, which is 0 if there is no part
        if settings.alpha_matting:
            cut_out = np.asarray(remove(image, session=session, alpha_matting=True), np.uint8)
            return np.ascontiguousarray(cut_out[..., 3])
        mask = np.asarray(remove(image, session=session, only_mask=True), np.uint8)
    return np.asarray(np.where(mask > 127, 255, 0), np.uint8)


def load_session(settings: RemoveBackground) -> Any:
    """Return rembg's session; each process has one, which its threads share.

    Raises:
        ConfigError: If the model is unknown or unsuitable, or its file is missing or damaged.
    """
    file = network_file(settings)
    with _creation_lock:  # with lru_cache alone, each thread of the first batch would load the network
        return _new_session(settings.model, file)


def network_hash(settings: RemoveBackground) -> str:
    """Return the SHA-256 of the network's file; the file is read again only if it changed."""
    file = network_file(settings)
    status = file.stat()
    return _hash_unchanged(file, status.st_mtime_ns, status.st_size)


def network_file(settings: RemoveBackground) -> Path:
    """Return the network's file.

    Raises:
        ConfigError: If the model is unsuitable, or its file is not on this machine.
    """
    file = _find_file(settings)
    if file is None:
        raise ConfigError(
            f"{_KEY}.method rembg needs the model file {default_files(settings.model)[0]}, which is not on this "
            f"machine; copy it there (U2NET_HOME sets another folder), set {_KEY}.model_file to its path, or use "
            "method border"
        )
    return file


def has_network(settings: RemoveBackground) -> bool:
    """Return whether the network's file is on this machine.

    Raises:
        ConfigError: If the model is unsuitable, or ``model_file`` is needed and missing.
    """
    return _find_file(settings) is not None


def default_files(model: str) -> list[Path]:
    """Return where rembg looks for the weights: in one folder for all models, or (newer versions) in one per model."""
    named = os.environ.get("U2NET_HOME")
    data = os.environ.get("XDG_DATA_HOME")
    flat = Path(named or Path(data or "~", ".u2net"))
    root = Path(named or os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else "~/.rembg"))
    return [path.expanduser() / f"{model}.onnx" for path in (flat, root / "models" / model)]


def _find_file(settings: RemoveBackground) -> Path | None:
    """Return the file that the settings name, else the file in rembg's folders; None if there is none."""
    model = settings.model
    if model in UNSUITABLE:
        raise ConfigError(f"{_KEY}.model: rembg's {model} {UNSUITABLE[model]}; use another model, such as u2net")
    if settings.model_file is not None:
        file = Path(settings.model_file).expanduser()
        if not file.is_file():
            raise ConfigError(f"{_KEY}.model_file: {file} does not exist")
        return file
    if model in CUSTOM_MODELS:
        raise ConfigError(f"{_KEY}.model: {model} is your own network; set {_KEY}.model_file to its path")
    return next((file for file in default_files(model) if file.is_file()), None)


@lru_cache(maxsize=4)
def _hash_unchanged(file: Path, changed: int, size: int) -> str:
    """Return the hash of a file; cached while modification time and size stay the same."""
    return file_hash(file)


@lru_cache(maxsize=1)
def _new_session(model: str, file: Path) -> Any:
    from onnxruntime import SessionOptions
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx
    from rembg.sessions import sessions_class

    known = {session.name(): session for session in sessions_class}
    if model not in known:
        suitable = ", ".join(sorted(known.keys() - UNSUITABLE))
        raise ConfigError(
            f"{_KEY}.model: rembg has no model {model!r}, only {suitable}; for your own file, set model_file"
        )
    options = SessionOptions()
    options.intra_op_num_threads = _thread_count()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads release the processors
    try:
        session = _with_local_file(known[model], file)(model, options, model_path=str(file))
    except (onnx.InvalidProtobuf, onnx.InvalidArgument, onnx.InvalidGraph, onnx.NotImplemented, onnx.Fail) as error:
        raise ConfigError(f"{_KEY}: {file} is damaged or not a network; copy it again ({error})") from error
    network = session.inner_session
    inputs, outputs = network.get_inputs(), network.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 4 or inputs[0].shape[1] != 3:
        raise ConfigError(f"{_KEY}: {file} is not a network from an image (1, 3, H, W) to its mask (1, 1, H, W)")
    session.inner_session = SerialSession(network)
    return session


def _with_local_file(session: Any, file: Path) -> Any:
    """Derive a session class that loads ``file``; rembg's own class would look for a file, check and download it."""

    class LocalSession(session):
        @classmethod
        def download_models(cls, *_: Any, **__: Any) -> str:
            return str(file)

        def normalize(self, img: Any, mean: Any, std: Any, size: tuple[int, int], *_: Any, **__: Any) -> Any:
            height, width = self.inner_session.get_inputs()[0].shape[2:4]
            is_fixed = isinstance(width, int) and isinstance(height, int)  # a name stands for any size
            return super().normalize(img, mean, std, (width, height) if is_fixed else size)

    return LocalSession


class SerialSession:
    """An ONNX session that runs one photograph at a time.

    One run on all processors is as fast as parallel runs on one processor each (within 10 % on 2 processors; faster
    with one worker) and takes the memory of one run; large networks take gigabytes. The other workers read, scale and
    write their photographs meanwhile.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *args: Any) -> Any:
        """Run the network when no other run is in progress."""
        with self._lock:
            return self._session.run(*args)


def _thread_count() -> int:
    """Return the number of processors of this process; joblib and Dask divide them by this variable."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return int(limit) if limit.isdigit() and int(limit) else processors()
