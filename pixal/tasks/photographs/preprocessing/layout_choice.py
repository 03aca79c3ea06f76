"""Choose how to find and align the parts of a type where the settings say ``auto``.

A few photographs are tried: the masks of a good background method are equal once the photographs are aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Execution
from pixal.config.section import result_settings
from pixal.errors import AlignmentError, InputError
from pixal.execution import map_parallel
from pixal.io.files import data_hash
from pixal.io.images import as_uint8, decode_image
from pixal.io.provenance import fingerprint
from pixal.tasks.photographs.alignment.align import Reference, align_photograph
from pixal.tasks.photographs.alignment.reference import describe_appearance, most_typical
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import available_methods, find_foreground
from pixal.tasks.photographs.preprocessing.records import Layout
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing, RemoveBackground

_SAMPLES = 6  # photographs that are tried
_SIDE = 960  # longer side in pixels of a photograph when it is tried
_MIN_ALIKE = 0.5  # of the samples must agree with their reference for a method that finds the part
_MIN_ALIKE_WHOLE = 0.75  # the same for whole photographs: the aligned ones of a texture are so by chance
_EQUAL_OVERLAP = 0.01  # two methods whose IoU differs by less are as good as each other
_MIN_SIDE = 16  # pixels of an image that shows something
_MIN_CONTRAST = 2.0  # 8-bit levels; standard deviation of the pixels of an image that shows something
_SAME_AREA = 0.2  # relative difference from the median area below which masks are of the same part
_MAX_PLATE_AREA = 0.8  # of the frame: a part that covers more has no plate around it


def choose_layout(
    photographs: Sequence[Photograph],
    settings: Preprocessing,
    earlier: Layout | None,
    execution: Execution,
    *,
    size: tuple[int, int] | None,
) -> Layout:
    """Choose the background method and the kind of alignment of a type.

    ``auto`` tries each method that can be used on a few photographs, aligns these to one of them, and takes the
    method whose masks agree best after alignment. If none agrees, and the masks do not show a part on a plate, the
    photographs are used as a whole: aligned if nearly all samples can be aligned, or else as a texture, as they are.

    Args:
        photographs: The photographs of the type.
        settings: The settings; what they do not leave to ``auto`` stays as it is.
        earlier: The choice of an earlier run, which is kept if it was made from the same.
        execution: How to process several photographs at a time.
        size: Height and width of the type's photographs; None if no photograph has one.

    Raises:
        ConfigError: If a method that the settings name cannot be used.
    """
    background, alignment = settings.remove_background, settings.alignment
    methods = available_methods(background)
    if not _needs_samples(background, alignment):
        method = "none" if background.method == "auto" else background.method
        aligns = True if alignment.apply_alignment == "auto" else alignment.apply_alignment
        return Layout(method=method, apply_alignment=aligns)
    samples = _read_samples(photographs, size)
    hashes = [sample.sha256 for sample in samples]
    key = fingerprint("layout", hashes, methods, result_settings(background), result_settings(alignment))
    if earlier is not None and earlier.key == key:
        return earlier
    images = [sample.image for sample in samples]
    trials = [_try(images, _with_method(background, name), alignment, execution) for name in methods]
    return _decide(trials, images, background, alignment, execution).model_copy(update={"key": key})


@dataclass(frozen=True)
class _Sample:
    """A photograph that is tried: its RGB or RGBA image (h, w, 3 or 4) at a small size, and the hash of its file."""

    image: NDArray[Any]
    sha256: str


@dataclass(frozen=True)
class _Trial:
    """The agreement of the masks of one method.

    Attributes:
        method: The method.
        masks: The masks of the samples; those on which no part was found are left out.
        samples: Number of samples.
        overlaps: IoU with the mask of the reference, one value per other sample that could be aligned.
    """

    method: str
    masks: list[NDArray[np.bool_]]
    samples: int
    overlaps: list[float]

    @property
    def share(self) -> float:
        """Fraction of the samples, without the reference, that could be aligned."""
        return len(self.overlaps) / max(1, self.samples - 1)

    @property
    def overlap(self) -> float:
        """Median IoU of the masks after alignment; 0 if nothing could be aligned."""
        return float(np.median(self.overlaps)) if self.overlaps else 0.0

    @property
    def shows_plate(self) -> bool:
        """Whether most masks are those of a part that lies on a plate: inside the frame, and of similar area.

        Masks that almost fill the frame are those of parts that were photographed in one place.
        """
        areas = np.array([mask.mean() for mask in self.masks if not _touches_border(mask)])
        if 2 * len(areas) <= self.samples or np.median(areas) > _MAX_PLATE_AREA:
            return False
        return bool(np.median(np.abs(areas / np.median(areas) - 1)) < _SAME_AREA)

    def __str__(self) -> str:
        return f"{self.method}: {len(self.overlaps)} of {self.samples - 1} agree, IoU {self.overlap:.3f}"


def _needs_samples(background: RemoveBackground, alignment: AlignmentSettings) -> bool:
    if background.method == "auto":
        return alignment.apply_alignment != "texture"
    return background.method == "none" and alignment.apply_alignment == "auto"


def _decide(
    trials: Sequence[_Trial],
    images: Sequence[NDArray[Any]],
    background: RemoveBackground,
    alignment: AlignmentSettings,
    execution: Execution,
) -> Layout:
    aligns = True if alignment.apply_alignment == "auto" else alignment.apply_alignment
    tried = "; ".join(map(str, trials))
    if len(images) < 2:
        reason = "too few photographs to try others"
        return Layout(method=trials[0].method if trials else "none", apply_alignment=aligns, reason=reason)
    if trials:
        best = trials[0]
        for trial in trials[1:]:
            better = (trial.share, trial.overlap - _EQUAL_OVERLAP) > (best.share, best.overlap)
            best = trial if better else best
        if best.share >= _MIN_ALIKE:
            reason = f"masks after alignment: {tried}"
            return Layout(method=best.method, apply_alignment=aligns, reason=reason)
        if any(trial.shows_plate for trial in trials):
            reason = f"there is a part on a plate, but most samples cannot be aligned: {tried}"
            return Layout(method=best.method, apply_alignment=aligns, reason=reason)
        if 2 * sum(map(_is_blank, images)) > len(images):
            return Layout(method=best.method, apply_alignment=aligns, reason="most samples show nothing")
    if alignment.apply_alignment != "auto":
        return Layout(method="none", apply_alignment=aligns, reason=f"no part stands out: {tried}")
    whole = _try(images, _with_method(background, "none"), alignment, execution)
    what = f"no part stands out ({tried}), and the" if trials else "the"
    reason = f"{what} whole photographs {{}} be aligned ({len(whole.overlaps)} of {whole.samples - 1})"
    if whole.share >= _MIN_ALIKE_WHOLE:
        return Layout(method="none", apply_alignment=True, reason=reason.format("can"))
    return Layout(method="none", apply_alignment="texture", reason=reason.format("cannot"))


def _with_method(background: RemoveBackground, method: str) -> RemoveBackground:
    return background.model_copy(update={"method": method})


def _read_samples(photographs: Sequence[Photograph], size: tuple[int, int] | None) -> list[_Sample]:
    """Read some of the photographs, evenly spaced in the list; those that cannot be read are left out."""
    readable = [photograph for photograph in photographs if not photograph.problem]
    chosen = np.unique(np.linspace(0, len(readable) - 1, min(_SAMPLES, len(readable))).round().astype(int))
    samples = []
    for index in chosen:
        try:
            data = readable[index].read()
            image = decode_image(data, size=size)
        except InputError:  # the background step reports it
            continue
        scale = min(1.0, _SIDE / max(image.shape[:2]))
        shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        small = cv2.resize(as_uint8(image), shape, interpolation=cv2.INTER_AREA)
        samples.append(_Sample(small, data_hash(data)))
    return [sample for sample in samples if sample.image.shape == samples[0].image.shape]  # some may be turned by 90°


def _try(
    images: Sequence[NDArray[Any]], background: RemoveBackground, alignment: AlignmentSettings, execution: Execution
) -> _Trial:
    """Find the part on each of the images with one method, and align the images to a typical one."""
    find = partial(_find_mask, settings=background)
    found = list(map_parallel(find, images, execution, step=f"try {background.method}", quiet=True))
    usable = [(image, mask) for image, mask in zip(images, found, strict=True) if mask is not None]
    masks = [mask for _, mask in usable]
    if len(usable) < 2:
        return _Trial(background.method, masks, len(images), [])
    descriptors = [describe_appearance(image[..., :3], mask) for image, mask in usable]
    image, mask = usable.pop(most_typical(np.stack(descriptors)))
    reference = Reference.from_photograph(image, mask, alignment.number_of_points)
    overlap = partial(_overlap, reference=reference, settings=alignment)
    overlaps = map_parallel(overlap, usable, execution, step=f"try {background.method}", quiet=True)
    return _Trial(background.method, masks, len(images), [value for value in overlaps if value is not None])


def _find_mask(image: NDArray[Any], *, settings: RemoveBackground) -> NDArray[np.bool_] | None:
    try:
        return find_foreground(image, settings).mask
    except InputError:
        return None


def _overlap(
    sample: tuple[NDArray[Any], NDArray[np.bool_]], *, reference: Reference, settings: AlignmentSettings
) -> float | None:
    """IoU of the masks of a sample and the reference after alignment; None if it cannot be aligned."""
    image, mask = sample
    try:
        result = align_photograph(np.ascontiguousarray(image[..., :3]), mask, reference, settings)
    except (AlignmentError, InputError):
        return None
    return None if result.reason else result.overlap


def _is_blank(image: NDArray[Any]) -> bool:
    """Whether an image (h, w, 3 or 4) is of one colour, or too small to show anything."""
    return min(image.shape[:2]) < _MIN_SIDE or bool(image[..., :3].std(axis=(0, 1)).max() < _MIN_CONTRAST)


def _touches_border(mask: NDArray[np.bool_]) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
