"""One of rembg's networks: its file, its session, and the mask it gives."""

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
_OWN_FILE = ("u2net_custom", "dis_custom", "ben_custom")  # rembg's names for a network that it has no file of
_UNFIT = {
    "sam": "needs points or boxes that say where the part is",
    "u2net_cloth_seg": "finds clothes",
    "atlascloud": "sends the photographs to a service",
    "withoutbg": "sends the photographs to a service",
}


def rembg_alpha(image: NDArray[np.uint8], settings: RemoveBackground) -> NDArray[np.uint8]:
    """The alpha (H, W), 0 to 255, that rembg's network gives an RGB photograph (H, W, 3).

    With ``settings.alpha_matting`` soft at the part's edge (closed-form matting, Levin et al., PAMI 2008; seconds a
    photograph), else 0 or 255.
    """
    from rembg import remove

    session = _session(settings.model, network_file(settings))
    with np.errstate(invalid="ignore"):  # rembg scales to the largest value; where all are equal there is no part
        if settings.alpha_matting:
            cut_out = np.asarray(remove(image, session=session, alpha_matting=True), np.uint8)
            return np.ascontiguousarray(cut_out[..., 3])
        mask = np.asarray(remove(image, session=session, only_mask=True), np.uint8)
    return np.asarray(np.where(mask > 127, 255, 0), np.uint8)


def network_hash(settings: RemoveBackground) -> str:
    """The SHA-256 of the network's file, read once for each state of the file."""
    file = network_file(settings)
    status = file.stat()
    return _hash(file, status.st_mtime_ns, status.st_size)


def network_file(settings: RemoveBackground) -> Path:
    """The network's file. Raises ConfigError where the model does not fit or its file is not on this machine."""
    file = _file_here(settings)
    if file is None:
        raise ConfigError(
            f"{_KEY}.method rembg needs the model file {_usual_places(settings.model)[0]}, which is not on this "
            f"machine; copy it there (U2NET_HOME names another folder), name it in {_KEY}.model_file, or use method "
            "border"
        )
    return file


def has_network(settings: RemoveBackground) -> bool:
    """Whether the network's file is on this machine. Raises ConfigError where no file can be right."""
    return _file_here(settings) is not None


def _file_here(settings: RemoveBackground) -> Path | None:
    """The network's file: the one named, else the one in rembg's usual places, None where there is none."""
    model = settings.model
    if model in _UNFIT:
        raise ConfigError(f"{_KEY}.model: rembg's {model} {_UNFIT[model]}; take another, u2net for one")
    if settings.model_file is not None:
        file = Path(settings.model_file).expanduser()
        if not file.is_file():
            raise ConfigError(f"{_KEY}.model_file: there is no file {file}")
        return file
    if model in _OWN_FILE:
        raise ConfigError(f"{_KEY}.model: {model} is a network of your own; name its file in {_KEY}.model_file")
    return next((file for file in _usual_places(model) if file.is_file()), None)


def _usual_places(model: str) -> list[Path]:
    """Where rembg looks for the weights of ``model``: one folder for all, or (newer versions) one of its own."""
    named = os.environ.get("U2NET_HOME")
    data = os.environ.get("XDG_DATA_HOME")
    flat = Path(named or Path(data or "~", ".u2net"))
    root = Path(named or os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else "~/.rembg"))
    return [path.expanduser() / f"{model}.onnx" for path in (flat, root / "models" / model)]


@lru_cache(maxsize=4)
def _hash(file: Path, changed: int, size: int) -> str:
    return file_hash(file)


def _session(model: str, file: Path) -> Any:
    """Rembg's session, made once a process and shared by its threads."""
    with _making:  # lru_cache alone lets each thread of the first batch load the network
        return _new_session(model, file)


_making = threading.Lock()


@lru_cache(maxsize=1)
def _new_session(model: str, file: Path) -> Any:
    from onnxruntime import SessionOptions
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx
    from rembg.sessions import sessions_class

    known = {session.name(): session for session in sessions_class}
    if model not in known:
        fit = ", ".join(sorted(known.keys() - _UNFIT))
        raise ConfigError(f"{_KEY}.model: rembg knows no model {model!r}, only {fit}; your own file goes in model_file")
    options = SessionOptions()
    options.intra_op_num_threads = _threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the processors
    try:
        session = _local(known[model], file)(model, options, model_path=str(file))
    except (onnx.InvalidProtobuf, onnx.InvalidArgument, onnx.InvalidGraph, onnx.NotImplemented, onnx.Fail) as error:
        raise ConfigError(f"{_KEY}: {file} is damaged or no network; copy it anew ({error})") from error
    network = session.inner_session
    pictures, masks = network.get_inputs(), network.get_outputs()
    if len(pictures) != 1 or len(pictures[0].shape) != 4 or len(masks[0].shape) != 4 or pictures[0].shape[1] != 3:
        raise ConfigError(f"{_KEY}: {file} is no network from a picture (1, 3, H, W) to its mask (1, 1, H, W)")
    session.inner_session = _OneAtATime(network)
    return session


def _local(session: Any, file: Path) -> Any:
    """The session class, bound to a file: rembg's own would look for it, check its sum, and download it."""

    class Local(session):
        @classmethod
        def download_models(cls, *_: Any, **__: Any) -> str:
            return str(file)

        def normalize(self, img: Any, mean: Any, std: Any, size: tuple[int, int], *_: Any, **__: Any) -> Any:
            height, width = self.inner_session.get_inputs()[0].shape[2:4]
            fixed = isinstance(width, int) and isinstance(height, int)  # else a name: any size
            return super().normalize(img, mean, std, (width, height) if fixed else size)

    return Local


class _OneAtATime:
    """An ONNX session whose runs take turns.

    One run on all processors is as fast as one a worker on one processor each (measured: within 10 % on 2 processors,
    and faster where there is one worker), and needs the memory of one: a large network takes gigabytes. Meanwhile the
    other workers read, scale and write their photographs.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._turn = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, *args: Any) -> Any:
        with self._turn:
            return self._session.run(*args)


def _threads() -> int:
    """The processors that are this process's own: joblib and Dask share them out by this variable."""
    shared = os.environ.get("OMP_NUM_THREADS", "")
    return int(shared) if shared.isdigit() and int(shared) else processors()
