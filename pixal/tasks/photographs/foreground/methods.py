"""Find the part on a photograph: its foreground, by the method that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.images import as_uint8
from pixal.tasks.photographs.foreground.border import LEAST_AREA, choose_part, find_part
from pixal.tasks.photographs.foreground.rembg_session import has_network, network_file, network_hash, rembg_alpha
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.settings import RemoveBackground


@dataclass(frozen=True)
class Foreground:
    """Where the part is on a photograph.

    alpha: (H, W), 0 to 255: 255 the part; between the two only where rembg was asked for alpha matting, or the
    photograph came with it. others: boxes (x, y, width, height) of other parts on the plate, largest first.
    """

    alpha: NDArray[np.uint8]
    others: tuple[Box, ...] = ()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The part's pixels (H, W) bool."""
        return self.alpha > 127


def find_foreground(image: NDArray[Any], settings: RemoveBackground) -> Foreground:
    """The part on an RGB or RGBA photograph (H, W, 3 or 4), 8 or 16 bits a channel.

    ``settings.method`` is "border", "rembg" or "none" (``choose_method`` says what "auto" is). A photograph whose alpha
    channel already cuts something out keeps that cut.

    Raises InputError where no part is found, and ConfigError where rembg's network cannot be used.
    """
    if image.shape[2] == 4 and (image[..., 3] == 0).any():
        foreground = Foreground(as_uint8(np.ascontiguousarray(image[..., 3])))
    else:
        foreground = _METHODS[settings.method](as_uint8(np.ascontiguousarray(image[..., :3])), settings)
    if foreground.mask.mean() < LEAST_AREA:
        raise InputError("no part found: nothing stands out from the background")
    return foreground


def choose_method(settings: RemoveBackground) -> RemoveBackground:
    """The settings with what ``auto`` stands for here: rembg where its network is on this machine, else border.

    Raises ConfigError where rembg or a model file is named and is not here: nothing is downloaded.
    """
    method = settings.method
    if method == "auto":
        method = "rembg" if has_network(settings) else "border"
    if method == "rembg":
        network_file(settings)
    return settings.model_copy(update={"method": method})


def model_hash(settings: RemoveBackground) -> str | None:
    """The SHA-256 of the network's file, None for other methods."""
    return network_hash(settings) if settings.method == "rembg" else None


def _border(image: NDArray[np.uint8], _: RemoveBackground) -> Foreground:
    return Foreground(*find_part(image))


def _rembg(image: NDArray[np.uint8], settings: RemoveBackground) -> Foreground:
    return Foreground(*choose_part(rembg_alpha(image, settings)))


def _whole(image: NDArray[np.uint8], _: RemoveBackground) -> Foreground:
    return Foreground(np.full(image.shape[:2], 255, np.uint8))


_METHODS = {"border": _border, "rembg": _rembg, "none": _whole}
