"""Defects of the surface: a dent, a blurred, noisy or discoloured patch, and a piece that belongs elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

from pixal.defects.kind import Layer, defect_kind
from pixal.defects.shapes import blob, disc
from pixal.defects.site import Site, channel_mean
from pixal.errors import InputError

_CANDIDATES = 24  # places to copy a piece from
_MAGNIFICATION = 0.4  # of a dent at its centre
_GRAIN = 1.5  # reference pixels between the grains of noise


@defect_kind(size="diameter of the piece", reach=0.9)
def copied_piece(site: Site) -> Layer:
    """A piece of the part from 1.5 to 6 sizes away. Of several places, that whose piece differs most is copied."""
    coverage = site.coverage(blob(site.rng, site.size, roughness=0.15))
    angles = site.rng.uniform(0, 2 * np.pi, _CANDIDATES)
    distances = site.size * site.rng.uniform(1.5, 6, _CANDIDATES)
    shifts = distances[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    around = np.stack([np.cos(angles[:8]), np.sin(angles[:8])], -1) * site.size * 0.6
    is_on_part = site.is_on_part(shifts[:, None] + around).all(1)
    pieces = [site.shifted((float(x), float(y))) for x, y in shifts[is_on_part]]
    pieces = [piece for piece in pieces if not np.isnan(piece[coverage > 0]).any()]
    if not pieces:
        raise InputError("copied_piece: there is no room on the part to copy a piece from; choose a smaller size")
    differences = [(channel_mean(np.abs(piece - site.pixels)) * coverage)[coverage > 0].sum() for piece in pieces]
    return Layer(coverage, np.where(coverage[..., None] > 0, pieces[int(np.argmax(differences))], site.pixels))


@defect_kind(size="diameter", reach=0.6)
def dent(site: Site) -> Layer:
    """A smooth dent: it magnifies what is printed, and its slopes are bright and dark along the orientation.

    With R the radius of the dent and u the distance from its centre over R, its depth is (1 - u^2)^2.
    """
    radius = site.size / 2
    u = np.hypot(*np.moveaxis(site.points, -1, 0)) / radius
    inside = np.clip(1 - u * u, 0, 1)
    warped = site.sample(site.points * (1 - _MAGNIFICATION * inside**2)[..., None])
    slope = site.points[..., 0] / radius * inside / 0.385  # at most 1
    return Layer(site.coverage(disc(site.size)), warped * (1 + slope[..., None]))


@defect_kind(size="diameter", reach=1.2)
def blur(site: Site) -> Layer:
    """A patch without detail: blurred with a standard deviation of a sixth of its diameter."""
    sigma = site.size / 6 / site.pixel_size
    blurred = np.asarray(cv2.GaussianBlur(site.pixels, (0, 0), sigma), np.float32).reshape(site.pixels.shape)
    return Layer(site.coverage(disc(site.size), site.size / 4), blurred)


@defect_kind(size="diameter", reach=0.7)
def noise(site: Site) -> Layer:
    """A rough patch: grains of random brightness, 1.5 reference pixels apart."""
    half = int(np.ceil(0.75 * site.size / _GRAIN)) + 1
    grains = site.rng.standard_normal((2 * half + 1, 2 * half + 1)).astype(np.float32)
    x, y = np.moveaxis(site.points / np.float32(_GRAIN) + np.float32(half), -1, 0)
    rough = cv2.remap(grains, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    coverage = site.coverage(disc(site.size), site.size / 4)
    level = float(np.average(site.intensity, weights=coverage + 1e-9))
    return Layer(coverage, site.pixels + 2 * level * np.asarray(rough, np.float32)[..., None])


@defect_kind(size="diameter", reach=0.7)
def colour(site: Site) -> Layer:
    """A discoloured patch: a change of colour in a random direction, at the same brightness."""
    if site.pixels.shape[2] != 3:
        raise InputError("colour: a grey photograph has no colour to change; choose another kind of defect")
    angle = site.rng.uniform(0, 2 * np.pi)
    direction = np.cos(angle + np.array([0, 2, 4]) * np.pi / 3).astype(np.float32)
    coverage = site.coverage(disc(site.size), site.size / 4)
    return Layer(coverage, site.pixels + site.intensity[..., None] * direction / np.abs(direction).mean())
