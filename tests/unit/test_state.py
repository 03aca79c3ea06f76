"""The fitted preprocessing: stored exactly, independent of the background, and exact about positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import rendered_photograph

from pixal.errors import ModelError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.synthetic import RenderedPhotograph
from pixal.tasks.photographs.alignment.align import Reference, warp
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.channels import CHANNELS, compute_channels
from pixal.tasks.photographs.network_input.illumination import light_gain
from pixal.tasks.photographs.preprocessing.state import PreprocessingState, input_to_photo
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing, Preprocessor

FRAME = (320, 180)
BOX = Box(55, 50, 211, 79)  # the part, and a margin; neither side a multiple of 2 or 3


def photograph(seed: int) -> RenderedPhotograph:
    return rendered_photograph("front", seed, size=FRAME)


def fitted(
    *,
    box: Box = BOX,
    consensus: NDArray[np.bool_] | None = None,
    image: NDArray[Any] | None = None,
    ignored: NDArray[np.bool_] | None = None,
    **preprocessor: Any,
) -> PreprocessingState:
    """A state whose light matching is one gain, and which registers nothing locally, unless asked for."""
    photo = photograph(0)
    reference = Reference.from_photograph(photo.image if image is None else image, photo.foreground > 0, 500)
    settings = Preprocessing.model_validate(
        {
            "preprocessor": {"edge_margin": 0, "local_registration": False, "light_matching": "gain"} | preprocessor,
            "remove_background": {"method": "border"},
            "rename_images": True,
        }
    )
    mask = photo.foreground > 0 if consensus is None else consensus
    nothing = np.zeros_like(mask)
    return PreprocessingState(
        "front", reference, mask, nothing if ignored is None else ignored, box, "c0ffee", settings
    )


def aligned(seed: int) -> NDArray[np.uint8]:
    photo = photograph(seed)
    return np.asarray(warp(photo.image, photograph(0).pose @ np.linalg.inv(photo.pose)), np.uint8)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("pool_size", [1, 2, 3])
def test_pixels_of_an_ignored_region_change_no_input_pixel(pool_size: int, local: bool) -> None:
    ignored = np.zeros(photograph(0).foreground.shape, bool)
    x, y, width, height = BOX
    region = np.s_[y + height // 3 : y + height // 3 + 13, x + width // 3 : x + width // 3 + 17]
    ignored[region] = True
    state = fitted(ignored=ignored, channels=["ALL"], pool_size=pool_size, local_registration=local)
    image = aligned(1)
    changed = image.copy()
    changed[region] = np.random.default_rng(0).integers(0, 255, changed[region].shape)
    before = state.to_input(image)
    np.testing.assert_array_equal(state.to_input(changed), before)
    inside = state.photo_to_input(np.eye(3)) @ np.array([x + width // 3 + 8, y + height // 3 + 6, 1.0])
    column, row = np.rint(inside[:2] / inside[2]).astype(int)
    assert not state.mask[row, column]
    assert not before[row, column].any()
    whole = fitted(channels=["ALL"], pool_size=pool_size)
    assert 0 < whole.mask.sum() - state.mask.sum() <= np.ceil(13 / pool_size + 1) * np.ceil(17 / pool_size + 1)


def test_a_loaded_state_gives_the_same_bytes(tmp_path: Path) -> None:
    state = fitted(channels=["ALL"], pool_size=3, weights=[1.0] * (len(CHANNELS) - 1) + [2.5])
    state.save(tmp_path / "state.npz")
    loaded = PreprocessingState.load(tmp_path / "state.npz")
    for image in (aligned(1), aligned(2).astype(np.uint16) * 257):
        before, after = state.to_input(image), loaded.to_input(image)
        assert before.dtype == after.dtype == np.float32
        assert before.tobytes() == after.tobytes()
    assert (loaded.type_name, loaded.box, loaded.method, loaded.shape) == (
        "front",
        BOX,
        "border",
        (27, 71, len(CHANNELS)),
    )
    assert (loaded.background_model_sha256, loaded.settings.preprocessor) == ("c0ffee", state.settings.preprocessor)
    assert not loaded.settings.rename_images  # settings that change no result are not stored
    assert loaded.settings.preprocessor.weights == [1.0] * (len(CHANNELS) - 1) + [2.5]
    assert np.array_equal(loaded.reference.features.descriptors, state.reference.features.descriptors)
    assert np.array_equal(loaded.mask, state.mask)
    loaded.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "state.npz").read_bytes()


def test_a_missing_or_damaged_state_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(ModelError, match=r"state\.npz does not exist; run preprocess"):
        PreprocessingState.load(path)
    fitted().save(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[2000] ^= 255  # inside the image
    for broken in (b"", b"no archive", whole[: len(whole) // 2], whole[:-30], bytes(flipped)):
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=r"state\.npz is damaged"):
            PreprocessingState.load(path)
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "plain.npy").replace(path)
    with pytest.raises(ModelError, match=r"state\.npz is damaged"):
        PreprocessingState.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ModelError, match=r"state\.npz is damaged"):
        PreprocessingState.load(path)


# --- the input


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.npz"
    fitted().save(path)
    whole = load_arrays(path)
    not_finite = whole["points"].copy()
    not_finite[0, 0] = np.nan
    for name, value, said in (
        ("mask", whole["mask"].astype(np.uint8), "mask is uint8"),
        ("consensus", whole["consensus"][1:], "consensus is bool of shape"),
        ("ignored", whole["ignored"][..., None], "ignored is bool of shape"),
        ("image", whole["image"][1:], "image is uint8 of shape"),
        ("image", whole["image"].astype(np.float32), "image is float32"),
        ("points", whole["points"][1:], "descriptors is float32 of shape"),
        ("descriptors", whole["descriptors"][:, 1:], "descriptors is float32 of shape"),
        ("points", not_finite, "points holds values that are not finite"),
        ("box", np.array([300, 50, 211, 79]), "is not inside the frame"),
        ("consensus", np.zeros_like(whole["consensus"]), "no pixel of the consensus mask is left"),
    ):
        save_arrays(path, **whole | {name: value})
        with pytest.raises(ModelError, match=rf"state\.npz is damaged .*{said}"):
            PreprocessingState.load(path)
    save_arrays(path, **whole)
    PreprocessingState.load(path)


def test_the_input_equals_a_direct_computation() -> None:
    state = fitted(channels=["R", "LAB_b", "S"], pool_size=2)
    image = aligned(1)
    x, y, width, height = BOX
    crop = image[y : y + height, x : x + width].astype(np.float32) / np.float32(255)
    lit = state.reference.image[y : y + height, x : x + width].astype(np.float32) / np.float32(255)
    inside = state.consensus[y : y + height, x : x + width]
    matched = np.clip(crop * light_gain(crop, lit, inside), 0, 1)
    channels = compute_channels(matched, ["R", "LAB_b", "S"])
    got = state.to_input(image)
    assert got.shape == (40, 106, 3)
    compared = 0
    for row, column in np.ndindex(40, 106):
        window = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if inside[window].all():  # at the edge, the colour of the part replaces the background
            assert got[row, column] == pytest.approx(channels[window].mean(axis=(0, 1)), abs=1e-5)
            compared += 1
        elif inside[window].mean() <= 0.5:
            assert not got[row, column].any()
            assert not state.mask[row, column]
    assert compared > 2000


@pytest.mark.parametrize("names", [["GradMag", "Laplacian", "LocalStd"], ["ALL"]])
@pytest.mark.parametrize("pool", [1, 2, 5])
@pytest.mark.parametrize("local", [False, True])
def test_the_background_changes_no_bit(names: list[str], pool: int, local: bool) -> None:
    state = fitted(channels=names, pool_size=pool, local_registration=local)
    image = aligned(1)
    inputs = []
    for colour in [(243, 112, 96), (0, 0, 0), (255, 255, 255), (10, 240, 20)]:
        plate = image.copy()
        plate[~state.consensus] = colour
        inputs.append(state.to_input(plate).tobytes())
    assert len(set(inputs)) == 1


def test_a_bent_part_gives_nearly_the_input_of_the_flat_one() -> None:
    image = photograph(0).image
    y, x = np.mgrid[: FRAME[1], : FRAME[0]].astype(np.float32)
    bend = (np.sin(x / 40), np.cos(x / 50 + y / 60))
    bent = cv2.remap(image, x + bend[0], y + bend[1], cv2.INTER_CUBIC)
    rigid, local = (fitted(channels=["LAB_L"], local_registration=how) for how in (False, True))
    flat = rigid.to_input(image)
    assert np.abs(local.to_input(bent) - flat).mean() < 0.5 * np.abs(rigid.to_input(bent) - flat).mean()


def test_light_is_matched_locally_except_for_textures() -> None:
    image = photograph(0).image
    x = np.linspace(0, 2 * np.pi, FRAME[0], dtype=np.float32)[None, :, None]
    lit = np.clip(image * (0.85 + 0.05 * np.sin(x)), 0, 255).astype(np.uint8)
    auto, gain, local = (
        fitted(channels=["LAB_L"], light_matching=how, pool_size=1) for how in ("auto", "gain", "local")
    )
    assert auto.to_input(lit).tobytes() == local.to_input(lit).tobytes()
    flat = gain.to_input(image)
    assert np.abs(local.to_input(lit) - flat).mean() < 0.6 * np.abs(gain.to_input(lit) - flat).mean()
    texture = {"apply_alignment": "texture"}
    as_texture = replace(auto, settings=auto.settings.model_copy(update={"alignment": AlignmentSettings(**texture)}))
    assert as_texture.to_input(lit).tobytes() == gain.to_input(lit).tobytes()


def test_the_outline_of_a_uniform_part_gives_no_gradient() -> None:
    consensus = np.zeros(FRAME[::-1], bool)
    consensus[60:120, 70:240] = True
    image = np.zeros((*consensus.shape, 3), np.uint8)
    image[consensus] = (90, 160, 60)
    state = fitted(consensus=consensus, channels=["GradMag", "LocalStd", "Laplacian"], pool_size=1)
    got = state.to_input(image)[state.mask]
    assert got == pytest.approx(np.broadcast_to([0.0, 0.0, 0.5], got.shape), abs=1e-6)


def test_the_edge_margin_is_not_compared() -> None:
    consensus = np.zeros(FRAME[::-1], bool)
    consensus[20:60, 30:90] = True
    consensus[38:42, 50:54] = False
    for margin in (0, 1, 3):
        part = fitted(consensus=consensus, edge_margin=margin).part_mask
        outside = np.argwhere(~consensus[15:65, 25:95])
        nearest = np.linalg.norm(np.indices((50, 70)).T[:, :, None] - outside, axis=-1).min(-1).T
        np.testing.assert_array_equal(part[15:65, 25:95], nearest > margin)
    # The border of the image is not an outline of the part.
    assert fitted(consensus=np.ones(FRAME[::-1], bool), edge_margin=3).part_mask.all()


def test_a_torn_edge_changes_the_input() -> None:
    state = fitted(channels=["R"], pool_size=1)
    image = aligned(1)
    torn = image.copy()
    rows, columns = np.nonzero(state.consensus)
    edge = int(rows[columns == 160].min())
    torn[edge : edge + 6, 150:170] = (255, 255, 255)
    x, y = BOX[:2]
    change = state.to_input(torn) - state.to_input(image)
    assert change[edge - y + 1 : edge - y + 5, 152 - x : 168 - x].min() > 0.2


def test_a_pooled_pixel_shows_the_part_if_more_than_half_of_it_does() -> None:
    consensus = np.zeros(FRAME[::-1], bool)
    consensus[0, 0:2] = consensus[1, 0] = True  # 3 of 4
    consensus[0:2, 4] = True  # 2 of 4
    consensus[0, 9] = True  # 1 of 2: the last column of an odd width
    consensus[8, 0:2] = True  # 2 of 2: the last row of an odd height
    state = fitted(consensus=consensus, box=Box(0, 0, 9, 9), pool_size=2)
    assert state.shape == (5, 5, 4)
    assert np.argwhere(state.mask).tolist() == [[0, 0], [4, 0]]


def test_light_is_matched_unless_disabled() -> None:
    channels = ["R", "G", "B"]
    darker = np.rint(photograph(0).image * np.array([0.7, 0.8, 0.9])).astype(np.uint8)
    matched, plain = (fitted(channels=channels, light_matching=how) for how in ("gain", "none"))
    # Bright cells: rounding to 8 bits and the clipped highlights leave them as they were.
    true = plain.to_input(photograph(0).image)
    bright = (true.min(-1) > 0.15) & (true.max(-1) < 0.9)
    assert bright.sum() > 50
    assert np.median(matched.to_input(darker)[bright] / true[bright], axis=0) == pytest.approx(1.0, abs=0.02)
    ratio = np.median(plain.to_input(darker)[bright] / true[bright], axis=0)
    assert ratio == pytest.approx([0.7, 0.8, 0.9], abs=0.01)


def test_16_bit_images_give_the_input_of_8_bit_images() -> None:
    state = fitted(channels=["ALL"])
    image = aligned(1)
    assert state.to_input(image.astype(np.uint16) * 257) == pytest.approx(state.to_input(image), abs=1e-4)


def test_the_channels_are_in_the_order_of_the_settings() -> None:
    image = aligned(1)
    every = fitted(channels=["ALL"]).to_input(image)
    names = list(CHANNELS)
    chosen = ["GradMag", "B", "LCh_C"]
    got = fitted(channels=chosen).to_input(image)
    for plane, name in enumerate(chosen):
        assert got[..., plane] == pytest.approx(every[..., names.index(name)], abs=1e-6)


# --- where things are


def blob(size: tuple[int, int], x: float, y: float, sigma: float) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.asarray(np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)))


def centroid(values: NDArray[Any]) -> NDArray[np.float64]:
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]]
    return np.array([(values * columns).sum(), (values * rows).sum()], np.float64) / values.sum()


POSE = np.array([[0.99, -0.08, 12.5], [0.09, 1.01, -9.25], [2e-5, -3e-5, 1.0]])


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
@pytest.mark.parametrize("place", [(100.0, 80.0), (161.5, 90.25), (205.0, 70.75)])
def test_a_dot_on_the_photograph_maps_to_the_input(place: tuple[float, float], pool: int) -> None:
    everywhere = np.ones(FRAME[::-1], bool)
    state = fitted(
        consensus=everywhere, box=Box(21, 15, 280, 150), channels=["V"], pool_size=pool, light_matching="none"
    )
    spot = np.rint(255 * blob(FRAME[::-1], *place, sigma=4)).astype(np.uint8)
    got = state.to_input(warp(np.dstack([spot] * 3), POSE))[..., 0]
    expected = cv2.perspectiveTransform(np.array([[place]]), state.photo_to_input(POSE))[0, 0]
    assert centroid(got) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("pool", [1, 2, 3, 4])
def test_a_dot_in_the_input_maps_to_the_photograph(pool: int) -> None:
    state = fitted(box=Box(21, 15, 280, 150), pool_size=pool)
    matrix = state.photo_to_input(POSE)
    u, v = 140 / pool, 70.5 / pool
    back = input_to_photo(blob(state.shape[:2], u, v, sigma=6 / pool).astype(np.float32), matrix, FRAME[::-1])
    assert back.shape == FRAME[::-1]
    assert back.dtype == np.float32
    expected = cv2.perspectiveTransform(np.array([[(u, v)]]), np.linalg.inv(matrix))[0, 0]
    assert centroid(back) == pytest.approx(expected, abs=0.1)


def test_pooled_pixels_are_centred_on_their_windows() -> None:
    state = fitted(box=Box(20, 10, 200, 100), pool_size=4)
    matrix = state.photo_to_input(np.eye(3))
    corners = np.array([[(20.0, 10.0), (21.5, 11.5), (23.0, 13.0), (25.5, 15.5)]])
    landed = cv2.perspectiveTransform(corners, matrix)[0]
    assert landed == pytest.approx(np.array([(-0.375, -0.375), (0, 0), (0.375, 0.375), (1, 1)]))


def test_a_map_is_zero_outside_the_part() -> None:
    state = fitted(box=Box(100, 60, 80, 40), pool_size=2)
    back = input_to_photo(np.ones((20, 40), np.float32), state.photo_to_input(np.eye(3)), FRAME[::-1])
    assert (back[62:98, 102:178] == 1).all()
    back[57:103, 97:183] = 0
    assert not back.any()


@pytest.mark.parametrize(
    ("texture", "pixels", "pool_size", "expected"),
    [
        (True, 250_000, "auto", 1),
        (True, 250_001, "auto", 2),
        (False, 10_000, "auto", 2),
        (True, 10_000, 3, 3),
    ],
)
def test_only_small_textures_are_not_pooled(texture: bool, pixels: int, pool_size: int | str, expected: int) -> None:
    assert Preprocessor.model_validate({"pool_size": pool_size}).pooling(pixels, texture=texture) == expected
