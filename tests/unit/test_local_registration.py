"""Smooth deformation is undone; what is no smooth deformation stays."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.tasks.photographs.network_input.local_registration import (
    find_displacement,
    registration_levels,
    undo_displacement,
)

SIZE = (240, 400)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
INSIDE = np.zeros(SIZE, bool)
INSIDE[12:-12, 12:-12] = True


@pytest.fixture(scope="module")
def print_() -> NDArray[np.float32]:
    """A part with lines and dots of 2 to 8 pixels."""
    generator = np.random.default_rng(0)
    image = np.full((*SIZE, 3), 0.4, np.float32)
    for _ in range(300):
        x, y, length, thickness = generator.integers((0, 0, 5, 2), (SIZE[1], SIZE[0], 60, 6))
        end = (x + length, y) if generator.random() < 0.5 else (x, y + length)
        cv2.line(image, (x, y), end, generator.uniform(0.2, 0.8, 3).tolist(), int(thickness))
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def bent(image: NDArray[np.float32], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image with the pixel of (X, Y) taken from (X + x, Y + y)."""
    return np.asarray(cv2.remap(image, X + x, Y + y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))


def bend(amplitude: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return (amplitude * np.sin(X / 60 + Y / 90)).astype(np.float32), (amplitude * np.cos(Y / 55)).astype(np.float32)


def displacement(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_] = INSIDE
) -> NDArray[np.float32]:
    return find_displacement(image, registration_levels(reference, mask))


@pytest.mark.parametrize("amplitude", [0.5, 1.5])
def test_a_known_deformation_is_found(print_: NDArray[np.float32], amplitude: float) -> None:
    x, y = bend(amplitude)
    noise = np.random.default_rng(1).normal(0, 0.01, print_.shape).astype(np.float32)
    image = bent(print_, x, y) * (1 + 0.05 * np.sin(X / 80))[..., None] + noise
    field = displacement(image.astype(np.float32), print_)
    # A pixel p of the reference is in the image at p + field(p), so (x, y) there leads back to p.
    there = [cv2.remap(values, X + field[..., 0], Y + field[..., 1], cv2.INTER_LINEAR) for values in (x, y)]
    error = np.hypot(field[..., 0] + there[0], field[..., 1] + there[1])
    assert error[INSIDE].mean() < 0.15 * amplitude
    before = np.abs(bent(print_, x, y) - print_)[INSIDE].mean()
    after = np.abs(undo_displacement(bent(print_, x, y), field) - print_)[INSIDE].mean()
    assert after < 0.3 * before


def test_an_image_that_is_not_bent_does_not_change(print_: NDArray[np.float32]) -> None:
    field = displacement(print_, print_)
    assert np.abs(field).max() < 1e-3
    np.testing.assert_allclose(undo_displacement(print_, field), print_, atol=1e-3)


def test_a_dent_a_missing_line_and_a_serial_number_stay(print_: NDArray[np.float32]) -> None:
    dent = 2 * np.exp(-((X - 200) ** 2 + (Y - 120) ** 2) / (2 * 6**2)).astype(np.float32)
    image = bent(print_, dent, 0 * dent)
    image[60:75, 100:160] = 0.4
    number = cv2.putText(np.zeros(SIZE, np.uint8), "1234", (280, 200), cv2.FONT_HERSHEY_PLAIN, 1.5, 255, 2)
    image[number > 0] = 0.8
    difference = np.abs(image - print_)
    left = np.abs(undo_displacement(image, displacement(image, print_)) - print_)
    for box in (np.s_[105:135, 185:215], np.s_[60:75, 100:160], np.s_[180:205, 275:345]):
        assert left[box].mean() > 0.9 * difference[box].mean()


def test_pixels_outside_the_mask_are_not_used(print_: NDArray[np.float32]) -> None:
    x, y = bend(1.0)
    image = bent(print_, x, y)
    outside = image.copy()
    outside[:9] = outside[-9:] = 0
    outside[:, :9] = outside[:, -9:] = 0
    np.testing.assert_allclose(displacement(outside, print_), displacement(image, print_), atol=0.02)


def test_a_part_without_print_is_not_moved() -> None:
    plain = np.full((*SIZE, 3), 0.5, np.float32)
    assert not displacement(0.9 * plain, plain).any()
    noise = np.random.default_rng(2).normal(0, 0.01, (2, *plain.shape)).astype(np.float32)
    assert np.abs(displacement(plain + noise[0], plain + noise[1])).mean() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (20, 9)])
def test_small_parts_do_not_fail(size: tuple[int, int]) -> None:
    image = np.random.default_rng(3).random((2, *size, 3)).astype(np.float32)
    field = displacement(image[0], image[1], np.ones(size, bool))
    assert np.isfinite(undo_displacement(image[0], field)).all()


def test_the_displacement_is_bounded(print_: NDArray[np.float32]) -> None:
    other = print_[::-1, ::-1].copy()
    largest = 0.01 * np.sqrt(INSIDE.size)
    assert np.abs(displacement(other, print_)).max() <= largest + 1e-6
