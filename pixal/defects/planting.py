"""Plant a defect on a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.defects.kind import DefectKind, Layer, Place, load_kind
from pixal.defects.site import Matrix, Site, channel_mean
from pixal.errors import ConfigError, InputError

_MARGIN = 4  # photograph pixels around a defect, for blurs


@dataclass(frozen=True)
class PlantedDefect:
    """A defect that is planted on a photograph.

    Attributes:
        kind: The name of its kind, for example ``scratch``.
        size: Its size in pixels of the reference, above 0. What is measured depends on the kind (``DefectKind.size``).
        contrast: The mean change of intensity, as a fraction of the mean intensity beneath (Weber contrast). Both means
            are over the pixels of the defect, weighted by how much of them it covers. The intensity is the mean of the
            colour channels, and the change is the mean of their absolute changes. Below 0 the defect is darker; only
            some kinds can be (``DefectKind.is_signed``).
        place: Its centre (x, y) in pixels of the reference frame.
        orientation: Its direction in degrees, anticlockwise from the x axis of the reference frame.
        seed: Seed of its random shape and texture, at least 0.
    """

    kind: str
    size: float
    contrast: float
    place: tuple[float, float]
    orientation: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        numbers = np.array([self.size, self.contrast, *self.place, self.orientation])
        if not np.isfinite(numbers).all() or self.size <= 0 or self.seed < 0:
            raise InputError(
                f"{self} is no defect: its size must be above 0, its seed at least 0, and all numbers finite"
            )


@dataclass(frozen=True)
class PlantedPhotograph:
    """A photograph with a planted defect.

    Attributes:
        image: The photograph, with the shape and the values of the original outside ``mask``.
        mask: (H, W), the pixels of the photograph that the defect changed. Pixels whose change is rounded to 0 are not
            among them.
        contrast: The contrast as drawn, defined as in ``PlantedDefect`` and measured on the image. It differs from the
            requested contrast by the rounding of pixel values. It is smaller where even the defect at full strength
            does not reach the requested one, for example a bright scratch on white.
    """

    image: NDArray[Any]
    mask: NDArray[np.bool_]
    contrast: float


def plant(
    photograph: NDArray[Any],
    defect: PlantedDefect,
    homography: Matrix,
    part: NDArray[np.bool_] | None = None,
) -> PlantedPhotograph:
    """Draw a defect on a photograph, in the photograph's own frame and resolution.

    Args:
        photograph: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or uint16. A fourth channel is alpha, and is not
            changed. The photograph is not changed in place.
        defect: The defect.
        homography: 3x3 matrix from the photograph's pixels (x, y) to the reference frame.
        part: (h, w), the pixels of the reference frame that show the part, for example the consensus mask. Only they
            are changed. None: the part fills the photograph.

    Returns:
        The photograph with the defect, and its exact pixels.

    Raises:
        ConfigError: If the kind is unknown.
        InputError: If the photograph has another shape or type, if the contrast is below 0 for a kind that cannot be
            darker, or if the defect does not lie on the part and on the photograph.
    """
    kind = load_kind(defect.kind)
    colours = _colour_channels(photograph)
    if defect.contrast < 0 and not kind.is_signed:
        raise InputError(f"{defect.kind}: the contrast must be at least 0, not {defect.contrast}")
    site = _site(colours, defect, kind, np.asarray(homography, np.float64), part)
    image = photograph.copy()
    mask = np.zeros(photograph.shape[:2], bool)
    window = np.s_[site.top : site.top + site.shape[0], site.left : site.left + site.shape[1]]
    drawn = _draw(site, defect, kind)
    before = colours[window]
    after = _colour_channels(image)[window]
    after[:] = np.rint(drawn.pixels * np.iinfo(photograph.dtype).max).astype(photograph.dtype)
    change = channel_mean(np.abs(after.astype(np.float32) - before))
    mask[window] = change > 0
    beneath = np.iinfo(photograph.dtype).max * float((drawn.coverage * site.intensity).sum())
    contrast = float(change.sum()) / beneath if beneath > 0 else 0.0
    return PlantedPhotograph(image, mask, float(np.copysign(contrast, defect.contrast)))


def _draw(site: Site, defect: PlantedDefect, kind: DefectKind) -> Layer:
    """Return the window with the defect, (h, w, C), and how much of each pixel the defect covers."""
    layer = kind.draw(site)
    if layer.coverage.shape != site.shape or layer.pixels.shape != site.pixels.shape:
        raise ConfigError(
            f"{defect.kind}: its coverage {layer.coverage.shape} and pixels {layer.pixels.shape} must have the shapes "
            f"{site.shape} and {site.pixels.shape}; correct the package that this kind of defect comes from"
        )
    coverage = layer.coverage
    if kind.place is not Place.OUTLINE:  # a defect at the outline decides itself where the part ends
        coverage = coverage * np.clip(site.depth + 0.5, 0, 1)
    if layer.coverage.any() and not coverage.any():
        raise InputError(f"{defect.kind} at {defect.place} is not on the part; choose another place")
    beneath = float((coverage * site.intensity).sum())
    change = coverage[..., None] * (np.clip(layer.pixels, 0, 1) - site.pixels)
    full = float(channel_mean(np.abs(change)).sum())
    strength = min(1.0, abs(defect.contrast) * beneath / full) if full > 0 else 0.0
    return Layer(coverage, site.pixels + np.float32(strength) * change)


def _site(
    photograph: NDArray[Any],
    defect: PlantedDefect,
    kind: DefectKind,
    homography: Matrix,
    part: NDArray[np.bool_] | None,
) -> Site:
    angle = np.deg2rad(defect.orientation)
    cosine, sine = np.cos(angle), np.sin(angle)
    # Rows count downwards, so anticlockwise is towards negative y.
    to_reference = np.array([[cosine, sine, defect.place[0]], [-sine, cosine, defect.place[1]], [0, 0, 1]])
    to_frame = np.linalg.inv(to_reference) @ homography
    to_photograph = np.linalg.inv(to_frame)
    reach = kind.reach * defect.size
    corners = np.array([[x, y, 1] for x in (-reach, reach) for y in (-reach, reach)]) @ to_photograph.T
    height, width = photograph.shape[:2]
    outside = f"{defect.kind} at {defect.place} is not on the photograph; choose another place"
    if not (corners[:, 2] / to_photograph[2, 2] > 0).all():
        raise InputError(outside)
    x, y = (corners[:, :2] / corners[:, 2:]).T
    left, top = max(0, int(np.floor(x.min())) - _MARGIN), max(0, int(np.floor(y.min())) - _MARGIN)
    right, bottom = min(width, int(np.ceil(x.max())) + _MARGIN + 1), min(height, int(np.ceil(y.max())) + _MARGIN + 1)
    if right <= left or bottom <= top:
        raise InputError(outside)
    return Site(
        size=defect.size,
        is_bright=defect.contrast > 0,
        rng=np.random.default_rng(defect.seed),
        photograph=photograph,
        left=left,
        top=top,
        shape=(bottom - top, right - left),
        to_frame=to_frame,
        to_reference=to_reference,
        part=part,
    )


def _colour_channels(photograph: NDArray[Any]) -> NDArray[Any]:
    """Return a view (H, W, C) of the photograph without alpha."""
    if photograph.dtype not in (np.uint8, np.uint16) or photograph.ndim not in (2, 3):
        raise InputError(f"a photograph of {photograph.dtype} values with shape {photograph.shape} is not supported")
    channels = photograph[..., None] if photograph.ndim == 2 else photograph
    if channels.shape[2] not in (1, 3, 4):
        raise InputError(f"a photograph has 1, 3 or 4 channels, not {channels.shape[2]}")
    return channels[..., :3]
