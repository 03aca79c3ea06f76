"""Augmented copies: they stay within the outline, change what the settings say, and keep held-out images out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pixal.config.schema import Augmentation
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.tasks.photographs.network_input.channels import CHANNELS, compute_channels
from pixal.train_model.augmentation import rows_with_copies, with_copies

SHAPE = (12, 16, 2)


def parts(count: int = 3, channels: tuple[str, str] = ("R", "S")) -> InputSet:
    """Random smooth images, 0 outside a rectangle that is not in the middle."""
    generator = np.random.default_rng(1)
    rows, columns = np.mgrid[:12, :16] / 16
    waves = [np.sin(3 * a * rows + 4 * b * columns)[..., None] for a, b in generator.random((count, 2))]
    images = (0.5 + 0.3 * np.stack(waves) * [1.0, 0.5]).astype(np.float32)
    images[:, :, 13:], images[:, :2] = 0, 0
    return InputSet(images.reshape(count, -1), SHAPE, channels, tuple(f"{n}.png" for n in range(count)))


def changed(count: int = 3, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images, and one copy of each."""
    off = {"copies": 1, "shift": 0.0, "light": 0.0}
    made = with_copies(parts(count), Augmentation(**off | settings), 5, 1.0).images()
    return made[:count], made[count:]


def test_copies_are_the_rows_that_belong_to_their_image() -> None:
    settings = Augmentation(copies=2)
    made = with_copies(parts(), settings, 5, 1.0)
    assert len(made) == 9
    np.testing.assert_array_equal(rows_with_copies(np.array([0, 2]), 3, 2), [0, 2, 3, 4, 7, 8])
    assert [made.names[row] for row in (7, 8)] == ["2.png (copy 1)", "2.png (copy 2)"]
    np.testing.assert_array_equal(made.data[:3], parts().data)
    other = parts()
    other.data[:2] = 0.5
    np.testing.assert_array_equal(with_copies(other, settings, 5, 1.0).data[7:], made.data[7:])  # of its image only
    assert not np.array_equal(made.data[7], made.data[8])
    assert not np.array_equal(with_copies(parts(), settings, 6, 1.0).data[7:], made.data[7:])


def test_labels_are_those_of_the_image() -> None:
    plain = parts()
    labels = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    inputs = InputSet(plain.data, SHAPE, plain.channels, plain.names, labels, ("back", "front"))
    made = with_copies(inputs, Augmentation(copies=2), 5, 1.0)
    assert made.labels is not None
    assert made.labels.argmax(1).tolist() == [0, 1, 1, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(("setting", "axis"), [("flip_horizontal", 2), ("flip_vertical", 1)])
def test_a_flip_mirrors_what_both_images_show(setting: str, axis: int) -> None:
    images, copies = changed(**{setting: 1.0})
    mirrored = np.flip(images, axis)
    both = np.s_[:, 3:-3, 4:-4]
    np.testing.assert_allclose(copies[both], mirrored[both], atol=1e-6)
    assert not np.allclose(copies[both], images[both], atol=1e-3)
    np.testing.assert_array_equal(copies == 0, images == 0)  # the outline stays


def test_a_flip_happens_with_its_probability() -> None:
    images, copies = changed(200, flip_horizontal=0.25)
    share = np.mean([not np.array_equal(image, copy) for image, copy in zip(images, copies, strict=True)])
    assert 0.15 < share < 0.35  # three standard deviations of 0.03


def test_a_shift_moves_by_at_most_its_length() -> None:
    images, copies = changed(50, shift=1.0)
    inner = np.s_[:, 4:-2, 2:-5]
    rows, columns = (np.gradient(images[..., 0], axis=axis)[inner] for axis in (1, 2))
    difference = (copies - images)[..., 0][inner]
    moved = []
    for down, across, change in zip(rows, columns, difference, strict=True):
        slopes = np.stack([down.ravel(), across.ravel()], axis=1)
        moved.append(-np.linalg.lstsq(slopes, change.ravel(), rcond=1e-3)[0])
    assert 0.3 < np.abs(moved).mean() < 0.7  # the mean of a uniform distribution up to 1 is 0.5
    assert np.abs(moved).max() < 1.2
    np.testing.assert_array_equal(copies == 0, images == 0)


def test_light_changes_channels_as_it_does_those_of_a_photograph() -> None:
    """The copy of the channels of a photograph is compared with the channels of a photograph in other light."""
    generator = np.random.default_rng(2)
    colours = generator.uniform(0.25, 0.6, (4, 5, 3)).repeat(6, 0).repeat(6, 1)
    names = tuple(CHANNELS)
    images = compute_channels(colours, names)
    shape = (24, 30, len(names))
    inputs = InputSet(images.reshape(1, -1), shape, names, ("a.png",))
    copy = with_copies(inputs, Augmentation(copies=1, shift=0.0, light=0.1), 5, 1.0).images()[1]
    gain = 1 + np.random.default_rng([5, 0]).uniform(-0.1, 0.1, 5)[4]
    assert abs(gain - 1) > 0.02
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4) * gain
    lit = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    expected = compute_channels(lit, names)
    for index, name in enumerate(names):
        change = float(np.abs(expected[..., index] - images[..., index]).max())
        error = float(np.abs(expected[..., index] - copy[..., index]).max())
        assert error <= max(0.25 * change, 0.003), name


def test_more_copies_than_the_memory_limit_allows_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model_training\.augmentation\.copies: 303 images take"):
        with_copies(parts(), Augmentation(copies=100), 5, 1e-4)
