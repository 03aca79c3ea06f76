"""Find the part on a photograph with the method of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.extras import require_extra
from pixal.io.images import as_uint8
from pixal.tasks.photographs.foreground.border import MIN_AREA, choose_part, find_part
from pixal.tasks.photographs.foreground.rembg_session import has_network, network_file, network_hash, rembg_alpha
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.settings import RemoveBackground


@dataclass(frozen=True)
class Foreground:
    """The foreground of a photograph.

    Attributes:
        alpha: (H, W), 255 on the part and 0 outside. Other values only by rembg with alpha matting, or if the
            photograph has an alpha channel with them.
        others: Boxes of other parts on the plate, largest first.
    """

    alpha: NDArray[np.uint8]
    others: tuple[Box, ...] = ()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool foreground mask: the pixels of the part."""
        return self.alpha > 127


def find_foreground(image: NDArray[Any], settings: RemoveBackground) -> Foreground:
    """Find the part on a photograph.

    If the alpha channel of the photograph already removes pixels, it is used as it is.

    Args:
        image: (H, W, 3 or 4) RGB or RGBA, 8- or 16-bit.
        settings: Their ``method`` is ``border``, ``rembg`` or ``none``, not ``auto``.

    Raises:
        InputError: If no part is found.
        ConfigError: If rembg's network cannot be used.
    """
    if image.shape[2] == 4 and (image[..., 3] == 0).any():
        foreground = Foreground(as_uint8(np.ascontiguousarray(image[..., 3])))
    else:
        foreground = _METHODS[settings.method](as_uint8(np.ascontiguousarray(image[..., :3])), settings)
    if foreground.mask.mean() < MIN_AREA:
        raise InputError("no part found: nothing differs from the background")
    return foreground


def available_methods(settings: RemoveBackground) -> list[str]:
    """The methods that find a part and that the settings allow: for ``auto``, all that can be used on this machine.

    Raises:
        ConfigError: If the settings name rembg or a model file that is not on this machine, or rembg is not
            installed. Nothing is downloaded.
    """
    if settings.method == "rembg":
        require_extra("rembg", "preprocessing.remove_background.method rembg")
    if settings.method == "rembg" or (settings.method == "auto" and has_network(settings)):
        network_file(settings)
    if settings.method == "auto":
        return ["border", "rembg"] if _can_use_rembg(settings) else ["border"]
    return [] if settings.method == "none" else [settings.method]


def _can_use_rembg(settings: RemoveBackground) -> bool:
    return has_network(settings) and find_spec("rembg") is not None


def model_hash(settings: RemoveBackground) -> str | None:
    """Return the SHA-256 of the network's file; None for other methods than ``rembg``."""
    return network_hash(settings) if settings.method == "rembg" else None


def _use_border(image: NDArray[np.uint8], _: RemoveBackground) -> Foreground:
    return Foreground(*find_part(image))


def _use_rembg(image: NDArray[np.uint8], settings: RemoveBackground) -> Foreground:
    return Foreground(*choose_part(rembg_alpha(image, settings)))


def _use_whole_photograph(image: NDArray[np.uint8], _: RemoveBackground) -> Foreground:
    return Foreground(np.full(image.shape[:2], 255, np.uint8))


_METHODS = {"border": _use_border, "rembg": _use_rembg, "none": _use_whole_photograph}
