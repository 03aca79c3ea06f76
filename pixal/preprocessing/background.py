"""Find the part on a photograph: its foreground mask."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.images import as_uint8

Mask = NDArray[np.bool_]

_SMALL_SIDE = 270  # border: pixels of the shorter side it works at; IoU 0.988 at a tenth of the full size's cost
_BORDER = 0.02  # border: width of the frame's border that shows only background, of the shorter side
_BORDER_COLOURS = 6
_LEAST_SPREAD = 4.0  # CIELAB units: a border colour is never taken for more uniform than sensor noise leaves it
_LEAST_CONTRAST = 3.0  # spreads of the nearest border colour
_LEAST_AREA = 0.002  # of the frame


def find_foreground(image: NDArray[Any], method: str, model: str = "u2net") -> Mask:
    """The part's pixels on an RGB or RGBA photograph (H, W, 3 or 4), as (H, W) bool.

    ``method``: a name in ``METHODS`` ("border", "rembg"); ``model``: rembg's model. A photograph whose alpha channel
    already cuts something out keeps that cut.

    Raises InputError where no part is found.
    """
    if image.shape[2] == 4 and (image[..., 3] == 0).any():
        mask = np.asarray(image[..., 3] > np.iinfo(image.dtype).max // 2)
    else:
        mask = METHODS[method](as_uint8(np.ascontiguousarray(image[..., :3])), model)
    if mask.mean() < _LEAST_AREA:
        raise InputError("no part found: nothing stands out from the background")
    return mask


def choose_method(method: str, model: str) -> str:
    """The method that ``auto`` stands for here: rembg where its model file is on this machine, else border.

    Raises ConfigError when rembg is asked for by name and its model file is not here (nothing is downloaded unasked).
    """
    if method == "border":
        return method
    files = _model_files(model)
    if any(file.is_file() for file in files):
        return "rembg"
    if method == "auto":
        return "border"
    raise ConfigError(
        f"preprocessing.remove_background.method rembg needs the model file {files[0]}, which is not on this "
        "machine; copy it there (U2NET_HOME names another folder), or use method border"
    )


def _border(image: NDArray[np.uint8], model: str) -> Mask:
    """What differs in colour from the frame's border, as one region: the largest central one, refined by GrabCut.

    The border's colours (k-means in CIELAB) are the background model; Otsu's threshold on the distance to the nearest
    of them gives a first mask. Rother et al., GrabCut, SIGGRAPH 2004.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _SMALL_SIDE / min(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    small = np.asarray(cv2.GaussianBlur(cv2.resize(image, size, interpolation=cv2.INTER_AREA), (0, 0), 1), np.uint8)
    distance = _distance_to_border(small)
    if distance.max() < _LEAST_CONTRAST:
        raise InputError("no part found: nothing stands out from the colours of the frame's border")
    levels = np.clip(distance * 6, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)
    mask = (levels > 0.6 * otsu).astype(np.uint8)
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, element)
    mask = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, element), np.uint8)
    mask = _grab_cut(small, _filled(_central(mask)))
    soft = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), max(0.5, 0.5 / scale)) > 0.5)


def _rembg(image: NDArray[np.uint8], model: str) -> Mask:
    """The alpha that rembg's network gives, cut at one half."""
    from rembg import remove

    alpha = remove(image, session=_rembg_session(model), only_mask=True)
    return np.asarray(np.asarray(alpha).reshape(image.shape[:2]) > 127)


METHODS: dict[str, Callable[[NDArray[np.uint8], str], Mask]] = {"border": _border, "rembg": _rembg}


def _rembg_session(model: str) -> Any:
    """Rembg's session, made once a process and shared by its threads."""
    with _session_lock:  # lru_cache alone lets each thread of the first batch load the model
        return _new_session(model)


_session_lock = threading.Lock()


@lru_cache(maxsize=1)
def _new_session(model: str) -> Any:
    from onnxruntime.capi import onnxruntime_pybind11_state as onnx
    from rembg import new_session

    try:
        return new_session(model)
    except ValueError as error:
        raise ConfigError(f"preprocessing.remove_background.model: rembg knows no model {model!r}") from error
    except (onnx.InvalidProtobuf, onnx.InvalidGraph, onnx.Fail) as error:
        raise ConfigError(
            f"preprocessing.remove_background.model: the file of {model!r} is damaged or no network; copy it anew "
            f"({error})"
        ) from error


def _model_files(model: str) -> list[Path]:
    """Where rembg looks for the weights of ``model``: one folder for all, or (newer versions) one of its own."""
    named = os.environ.get("U2NET_HOME")
    data = os.environ.get("XDG_DATA_HOME")
    flat = Path(named or Path(data or "~", ".u2net"))
    root = Path(named or os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else "~/.rembg"))
    return [path.expanduser() / f"{model}.onnx" for path in (flat, root / "models" / model)]


def _distance_to_border(small: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each pixel's distance to the nearest colour of the frame's border, in that colour's spread."""
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    margin = max(2, round(_BORDER * min(small.shape[:2])))
    border = np.ones(small.shape[:2], bool)
    border[margin:-margin, margin:-margin] = False
    samples = lab[border]
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    # k-means++ draws from a generator of the thread's own; one seed an image keeps a run repeatable.
    cv2.setRNGSeed(0)
    colours = min(_BORDER_COLOURS, len(np.unique(samples, axis=0)))
    _, labels, centres = cv2.kmeans(samples, colours, np.zeros((0, 0), np.int32), criteria, 1, cv2.KMEANS_PP_CENTERS)
    distance = np.full(small.shape[:2], np.inf, np.float32)
    for index, centre in enumerate(centres):
        members = samples[labels[:, 0] == index]
        spread = np.maximum(members.std(0), _LEAST_SPREAD) if len(members) else np.float32(_LEAST_SPREAD)
        np.minimum(distance, np.linalg.norm((lab - centre) / spread, axis=-1), out=distance)
    return distance


def _central(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest region, weighted by how central it lies."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        raise InputError("no part found: nothing stands out from the colours of the frame's border")
    half = np.array(mask.shape[::-1]) / 2
    offset = ((centres[1:] - half) / half) ** 2
    weight = stats[1:, cv2.CC_STAT_AREA] * np.exp(-offset.sum(1))
    return np.asarray(labels == 1 + int(np.argmax(weight)), np.uint8)


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), outlines, -1, 1, -1), np.uint8)


def _grab_cut(small: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Move the mask's outline to the nearest colour edge, within a few pixels of where it is."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    labels = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    labels[cv2.dilate(mask, element) > 0] = cv2.GC_PR_BGD
    labels[mask > 0] = cv2.GC_PR_FGD
    labels[cv2.erode(mask, element) > 0] = cv2.GC_FGD
    x, y, width, height = cv2.boundingRect(mask)
    margin = 20
    window = np.s_[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    inner = np.ascontiguousarray(labels[window])
    if not (inner == cv2.GC_FGD).any() or not (inner == cv2.GC_BGD).any():
        return mask
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    whole = (0, 0, 0, 0)  # not used: the labels say where to start
    cv2.grabCut(np.ascontiguousarray(small[window]), inner, whole, background, foreground, 2, cv2.GC_INIT_WITH_MASK)
    refined = np.zeros_like(mask)
    refined[window] = (inner == cv2.GC_FGD) | (inner == cv2.GC_PR_FGD)
    return _filled(_central(refined))
