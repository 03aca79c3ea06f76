"""preprocess, remove_bg, align and make_input on a small rendered batch: files, records, failures, repeatability."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from helpers import NO_FIGURES, config_in

from pixal.errors import ConfigError, InputError
from pixal.inputs import InputSet
from pixal.io.images import read_image, write_image
from pixal.outcome import Outcome
from pixal.synthetic import write_batch
from pixal.tasks.photographs.preprocessing.conditions import measure_light_and_focus
from pixal.tasks.photographs.preprocessing.pipeline import align, make_input, preprocess, remove_bg
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

FRAME = (400, 225)
COLUMNS = "image,status,reason,inliers,inlier_ratio,ssim,mse,h00,h01,h02,h10,h11,h12,h20,h21,h22"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "figures/aligned_metrics/results.csv").open() as file:
        return list(csv.DictReader(file))


def record(folder: Path, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "metadata" / f"{name}.yaml").read_text()))


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of the front, two of the back."""
    folder = tmp_path_factory.mktemp("batch")
    for type_name, count in (("front", 4), ("back", 2)):
        write_batch(folder, component="Part", types=(type_name,), train=count, good=0, bad=0, frame_size=FRAME)
    return folder / "train/Part"


@pytest.fixture(scope="module")
def done(batch: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The batch, preprocessed in threads, without figures; read only."""
    folder = tmp_path_factory.mktemp("done")
    return folder / "out/Part", preprocess(batch, config=config_in(folder, *NO_FIGURES), quiet=True)


def only_front(batch: Path, folder: Path, count: int = 3) -> Path:
    target = folder / "photos/front"
    target.mkdir(parents=True)
    for path in sorted((batch / "front").iterdir())[:count]:
        shutil.copy(path, target)
    return target.parent


# --- what is written


def test_the_record_holds_light_and_focus_of_each_photograph(done: tuple[Path, Outcome]) -> None:
    for type_name, count in (("front", 4), ("back", 2)):
        folder = done[0] / type_name
        noted = record(folder, "preprocessing")
        assert noted["photographs"] == {type_name: count}
        mask = PreprocessingState.load(folder / "metadata/preprocessing.npz").part_mask
        for row, aligned in zip(noted["made"][0]["images"][type_name], table(folder), strict=True):
            name = f"{Path(row['image']).stem}_aligned.png"
            image = read_image(folder / "preprocessed_images/aligned_images" / name)[..., :3]
            levels = image[mask].mean(axis=0) / 255
            assert [row["red"], row["green"], row["blue"]] == pytest.approx(levels.tolist())
            assert row["sharpness"] == pytest.approx(measure_light_and_focus(image, mask).sharpness)
            assert row["ssim"] == pytest.approx(float(aligned["ssim"]))
            assert row["inlier_ratio"] == pytest.approx(float(aligned["inlier_ratio"]))


def test_each_photograph_gives_files_a_row_and_an_input(done: tuple[Path, Outcome]) -> None:
    out, outcome = done
    assert (outcome.done, outcome.failures) == (6, [])
    for type_name, count in (("front", 4), ("back", 2)):
        folder = out / type_name
        stems = [f"image_{i:03d}" for i in range(count)]
        photos = [f"{stem}.jpg" for stem in stems]
        images = folder / "preprocessed_images"
        assert names_in(images / "background_removed") == [f"{stem}_no_bg.png" for stem in stems]
        assert names_in(images / "aligned_images") == [f"{stem}_aligned.png" for stem in stems]
        assert [(row["image"], row["status"], row["reason"]) for row in table(folder)] == [
            (photo, "ok", "") for photo in photos
        ]
        inputs = InputSet.load(folder / "out.npz")
        assert inputs.names == tuple(photos)
        assert inputs.channels == ("LAB_L", "LAB_a", "LAB_b", "GradMag")
        assert inputs.data.dtype == np.float32
        assert inputs.labels is None


def test_the_removed_background_is_transparent_and_keeps_its_colours(done: tuple[Path, Outcome], batch: Path) -> None:
    rgba = read_image(done[0] / "front/preprocessed_images/background_removed/image_002_no_bg.png")
    assert np.array_equal(rgba[..., :3], read_image(batch / "front/image_002.jpg"))
    truth = cv2.imread(str(batch.parents[1] / "truth/front/foreground/image_002.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(rgba[..., 3])) == {0, 255}
    assert (np.not_equal(rgba[..., 3] > 0, truth > 0)).sum() < 0.03 * (truth > 0).sum()


def test_the_table_has_the_columns_of_the_contract_and_the_true_poses(done: tuple[Path, Outcome], batch: Path) -> None:
    text = (done[0] / "front/figures/aligned_metrics/results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    poses = yaml.safe_load((batch.parents[1] / "truth/front/poses.json").read_text())
    reference = record(done[0] / "front", "alignment")["reference"].removesuffix(".jpg")
    points = np.array([[(100.0, 90.0), (300.0, 90.0), (200.0, 110.0), (120.0, 130.0)]])
    for row in table(done[0] / "front"):
        actual = np.array([float(row[f"h{i}{j}"]) for i in range(3) for j in range(3)]).reshape(3, 3)
        true = np.array(poses[reference]) @ np.linalg.inv(poses[row["image"].removesuffix(".jpg")])
        difference = cv2.perspectiveTransform(points, actual) - cv2.perspectiveTransform(points, true)
        assert np.linalg.norm(difference[0], axis=1).max() < 0.5
        assert actual[2, 2] == 1.0
        assert int(row["inliers"]) >= 25
        assert 0.5 < float(row["inlier_ratio"]) <= 1
        assert 0.5 < float(row["ssim"]) <= 1
        assert float(row["mse"]) >= 0


def test_the_records_agree_with_the_files(done: tuple[Path, Outcome], batch: Path) -> None:
    folder = done[0] / "front"
    background, alignment, whole = (record(folder, name) for name in ("background", "alignment", "preprocessing"))
    inputs = InputSet.load(folder / "out.npz")
    photos = sorted((batch / "front").iterdir())
    hashes = [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos]
    for images in (background["images"], alignment["images"], whole["made"][0]["images"]["front"]):
        assert [image["sha256"] for image in images] == hashes
        assert [image["image"] for image in images] == [photo.name for photo in photos]
    assert background["method"] == whole["types"]["front"]["background_method"] == "border"
    assert alignment["reference"] in [photo.name for photo in photos]
    assert alignment["settings"]["knn_ratio"] == 0.75
    assert whole["shape"] == list(inputs.shape)
    assert whole["input_dim"] == inputs.data.shape[1]
    assert whole["n_images"] == 4
    assert whole["channels"] == list(inputs.channels)
    assert whole["component"] == "Part"
    assert whole["sha256"] == hashlib.sha256((folder / "out.npz").read_bytes()).hexdigest()
    assert whole["settings"]["preprocessor"]["pool_size"] == "auto"
    assert whole["types"]["front"]["pool_size"] == 2
    assert {"numpy", "opencv-python-headless"} <= set(whole["versions"])
    box, shape = whole["crop_box"], whole["shape"]
    assert (-(-box["height"] // 2), -(-box["width"] // 2)) == (shape[0], shape[1])
    state = PreprocessingState.load(folder / "metadata/preprocessing.npz")
    assert state.box == (box["x"], box["y"], box["width"], box["height"])
    aligned = read_image(folder / "preprocessed_images/aligned_images/image_003_aligned.png")
    assert np.array_equal(state.to_input(aligned[..., :3]), inputs.images()[3])


def test_the_crop_box_fits_the_part(done: tuple[Path, Outcome], batch: Path) -> None:
    reference = record(done[0] / "front", "alignment")["reference"].replace(".jpg", ".png")
    truth = cv2.imread(str(batch.parents[1] / "truth/front/foreground" / reference), cv2.IMREAD_GRAYSCALE)
    x, y, width, height = cv2.boundingRect(truth)
    box = record(done[0] / "front", "preprocessing")["crop_box"]
    actual = np.array([box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]])
    assert abs(actual - (x, y, x + width, y + height)).max() <= 3


# --- settings


def test_renamed_images_are_numbered_by_type(batch: Path, tmp_path: Path) -> None:
    config = config_in(tmp_path, *NO_FIGURES, "preprocessing.rename_images=true")
    photos = only_front(batch, tmp_path)
    preprocess(photos, config=config, quiet=True)
    front = tmp_path / "out/Part/front"
    images = front / "preprocessed_images"
    assert names_in(images / "background_removed") == [f"front_{i:03d}_no_bg.png" for i in range(3)]
    assert names_in(images / "aligned_images") == [f"front_{i:03d}_aligned.png" for i in range(3)]
    photographs = [f"image_{i:03d}.jpg" for i in range(3)]
    assert [row["image"] for row in table(front)] == photographs
    assert list(InputSet.load(front / "out.npz").names) == photographs

    # A second run, of fewer photographs under other names, leaves nothing of the first.
    (photos / "front/image_001.jpg").unlink()
    preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert names_in(images / "background_removed") == ["image_000_no_bg.png", "image_002_no_bg.png"]
    assert names_in(images / "aligned_images") == ["image_000_aligned.png", "image_002_aligned.png"]
    assert InputSet.load(front / "out.npz").names == ("image_000.jpg", "image_002.jpg")
    assert [row["image"] for row in table(front)] == ["image_000.jpg", "image_002.jpg"]


def test_figures_follow_the_settings_and_the_photographs(batch: Path, tmp_path: Path) -> None:
    photos = only_front(batch, tmp_path, count=2)
    metrics = tmp_path / "out/Part/front/figures/aligned_metrics"
    remove_bg(photos, config=config_in(tmp_path), quiet=True)
    align(photos, config=config_in(tmp_path), quiet=True)
    assert [Path(name).stem for name in names_in(metrics / "matches")] == ["image_000_matches", "image_001_matches"]
    overlays = names_in(metrics / "overlay_diagnostics")
    assert [Path(name).stem for name in overlays] == ["image_000_overlay", "image_001_overlay"]
    assert (metrics / "metrics.png").is_file()
    (photos / "front/image_001.jpg").unlink()
    remove_bg(photos, config=config_in(tmp_path), quiet=True)
    align(photos, config=config_in(tmp_path, "preprocessing.save_overlays=false"), quiet=True)
    assert [Path(name).stem for name in names_in(metrics / "matches")] == ["image_000_matches"]
    assert names_in(metrics / "overlay_diagnostics") == []


def test_settings_of_the_preprocessor_change_the_input(done: tuple[Path, Outcome], batch: Path, tmp_path: Path) -> None:
    def made(*overrides: str) -> tuple[InputSet, dict[str, Any]]:
        prefixed = [f"preprocessing.preprocessor.{text}" for text in overrides]
        make_input(photos, config=config_in(tmp_path, *NO_FIGURES, *prefixed), quiet=True)
        folder = tmp_path / "out/Part/front"
        whole = record(folder, "preprocessing")
        return InputSet.load(folder / whole["input"]), whole

    photos = batch / "front"
    shutil.copytree(done[0], tmp_path / "out/Part")
    shutil.rmtree(tmp_path / "out/Part/back")
    plain, plain_record = made()
    box = plain_record["crop_box"]
    assert np.array_equal(plain.data, InputSet.load(done[0] / "front/out.npz").data)

    whole, whole_record = made("zero_pruning=false")
    assert whole.shape == (113, 200, 4)  # the frame, half as large, rounded up
    assert whole_record["crop_box"] == {"x": 0, "y": 0, "width": 400, "height": 225}
    x, y = box["x"] // 2, box["y"] // 2
    if box["x"] % 2 == box["y"] % 2 == 0:
        inside = whole.images()[:, y : y + plain.shape[0], x : x + plain.shape[1]]
        assert np.abs(inside - plain.images()).mean() < 1e-3

    weighted, weighted_record = made("channels=[S,R]", "weights=[0.25,3]", "pool_size=4", "file_name=other.npz")
    assert weighted.shape[2] == 2
    assert weighted.channels == ("S", "R")
    assert weighted_record["input"] == "other.npz"
    assert weighted.shape[0] == -(-weighted_record["crop_box"]["height"] // 4)
    assert weighted_record["crop_box"]["width"] % 4 == 0
    assert weighted_record["settings"]["preprocessor"]["weights"] == [0.25, 3.0]
    state = PreprocessingState.load(tmp_path / "out/Part/front/metadata/preprocessing.npz")
    assert state.settings.preprocessor.weights == [0.25, 3.0]
    with pytest.raises(InputError, match="bg_threshold"):
        made("bg_threshold=255")
    _, padded = made("zero_pruning_padding=6", "consensus=0.2")
    assert padded["crop_box"]["x"] <= box["x"] - 6
    assert padded["crop_box"]["height"] >= box["height"] + 12
    assert padded["types"]["front"]["part_pixels"] > plain_record["types"]["front"]["part_pixels"]


def test_one_hot_inputs_hold_all_types_in_one_shape(done: tuple[Path, Outcome], batch: Path, tmp_path: Path) -> None:
    shutil.copytree(done[0], tmp_path / "out/Part")
    config = config_in(tmp_path, *NO_FIGURES, "model_training.one_hot_encoding=true")
    outcome = make_input(config=config, quiet=True)
    assert outcome.done == 6
    together = InputSet.load(tmp_path / "out/Part/out.npz")
    parts = {name: InputSet.load(done[0] / name / "out.npz") for name in ("back", "front")}
    assert together.types == ("back", "front")
    assert together.labels is not None
    assert np.array_equal(together.labels, np.repeat(np.eye(2, dtype=np.float32), [2, 4], axis=0))
    assert together.names == tuple(f"{name}/{image}" for name, part in parts.items() for image in part.names)
    assert together.shape == (*np.max([part.shape[:2] for part in parts.values()], axis=0), 4)
    start = 0
    for part in parts.values():
        rows = together.images()[start : start + len(part)]
        height, width = part.shape[:2]
        assert np.array_equal(rows[:, :height, :width], part.images())
        assert not rows[:, height:].any()
        assert not rows[:, :, width:].any()
        start += len(part)


def test_the_reference_is_chosen_or_named(batch: Path, tmp_path: Path) -> None:
    def reference(*overrides: str) -> str:
        align(photos, config=config_in(tmp_path, *NO_FIGURES, *overrides), quiet=True)
        return str(record(tmp_path / "out/Part/front", "alignment")["reference"])

    photos = only_front(batch, tmp_path, count=4)
    blurred = cv2.GaussianBlur(read_image(photos / "front/image_002.jpg"), (0, 0), 2.5)
    write_image(photos / "front/a_blurred.png", blurred)
    remove_bg(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert reference() in {f"image_00{number}.jpg" for number in range(4)}  # not the first by name
    assert reference("preprocessing.alignment.reference=image_003.jpg") == "image_003.jpg"
    assert reference("preprocessing.alignment.reference={front: image_001}") == "image_001.jpg"
    assert reference("preprocessing.alignment.reference={back: image_000}") == reference()
    with pytest.raises(
        ConfigError, match=r"alignment\.reference: front has no usable photograph imag_001\.jpg; .*image_"
    ):
        reference("preprocessing.alignment.reference=imag_001.jpg")


@pytest.mark.slow
def test_mask_image_and_ignored_regions(
    done: tuple[Path, Outcome], batch: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def made(*settings: str) -> PreprocessingState:
        overrides = [f"preprocessing.preprocessor.{text}" for text in settings]
        make_input(photos, config=config_in(tmp_path, *NO_FIGURES, *overrides), quiet=True)
        return PreprocessingState.load(tmp_path / "out/Part/front/metadata/preprocessing.npz")

    photos = batch / "front"
    shutil.copytree(done[0], tmp_path / "out/Part")
    plain = made()
    given = np.zeros(plain.consensus.shape, bool)
    given[100:140, 120:221] = True
    write_image(tmp_path / "given.png", given.astype(np.uint8) * 255)
    state = made(f"mask={tmp_path / 'given.png'}")
    assert np.array_equal(state.consensus, given)
    assert state.box[:2] == (120, 100)

    state = made("ignore_regions={front: [[150, 105, 20, 10], [180, 110, 4, 4]]}")
    expected = np.zeros_like(given)
    expected[105:115, 150:170] = expected[110:114, 180:184] = True
    assert np.array_equal(state.ignored, expected)
    assert np.array_equal(state.consensus, plain.consensus)
    inputs = InputSet.load(tmp_path / "out/Part/front/out.npz").images()
    blank = ~state.mask
    assert not inputs[:, blank].any()
    assert blank.sum() > (~plain.mask).sum()
    write_image(tmp_path / "ignored.png", expected.astype(np.uint8) * 255)
    assert np.array_equal(made(f"ignore_regions={{front: {tmp_path / 'ignored.png'}}}").ignored, expected)

    with pytest.raises(ConfigError, match=r"ignore_regions.*\[?380"):
        made("ignore_regions={front: [[380, 10, 60, 5]]}")
    write_image(tmp_path / "small.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(ConfigError, match=r"preprocessor\.mask: .*small\.png is 30x20, the reference is 400x225"):
        made(f"mask={tmp_path / 'small.png'}")
    with pytest.raises(ConfigError, match=r"preprocessor\.mask: nowhere\.png does not exist"):
        made("mask=nowhere.png")
    with pytest.raises(ConfigError, match="leave nothing of front"):
        made("ignore_regions={front: [[0, 0, 400, 225]]}")
    caplog.clear()
    made("ignore_regions={frnt: [[150, 105, 20, 10]]}")
    assert "ignore_regions names the type frnt, which does not exist; the types are front" in caplog.text


def test_warnings_name_other_parts_and_parts_cut_by_the_crop_box(
    batch: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = only_front(batch, tmp_path)
    photo = read_image(photos / "front/image_001.jpg")
    photo[20:50, 180:220] = (20, 60, 40)  # on the plate
    write_image(photos / "front/with_another.png", photo)
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert outcome.done == 4
    assert "front/with_another.png: another part" in caplog.text
    row = record(tmp_path / "out/Part/front", "background")["images"][3]
    (x, y, width, height) = row["others"][0]
    assert abs(np.array([x, y, width, height]) - (180, 20, 40, 30)).max() <= 4

    cut = np.zeros(read_image(photos / "front/image_000.jpg").shape[:2], np.uint8)
    cut[:, :200] = 255
    write_image(tmp_path / "left.png", cut)
    caplog.clear()
    make_input(config=config_in(tmp_path, *NO_FIGURES, f"preprocessing.preprocessor.mask={tmp_path / 'left.png'}"))
    assert re.search(r"front/image_000\.jpg: [45]\d\.\d% of the part lies outside the crop box", caplog.text)


# --- what fails


def test_bad_images_are_reported_and_good_ones_processed(batch: Path, tmp_path: Path) -> None:
    photos = only_front(batch, tmp_path)
    folder = photos / "front"
    whole = (folder / "image_000.jpg").read_bytes()
    (folder / "a_truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "b_text.png").write_text("no image")
    write_image(folder / "c_plate.png", np.full((225, 400, 3), (243, 112, 96), np.uint8))
    shutil.copy(batch / "back/image_000.jpg", folder / "x_other_side.jpg")
    write_image(folder / "y_other_size.png", cv2.resize(read_image(folder / "image_001.jpg"), (480, 270)))
    write_image(folder / "z_mirrored.png", np.ascontiguousarray(read_image(folder / "image_001.jpg")[:, ::-1]))
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert outcome.done == 3
    reasons = {failure.image: (failure.step, failure.reason) for failure in outcome.failures}
    expected = {
        "a_truncated.jpg": ("background", "truncated"),
        "b_text.png": ("background", "not an image"),
        "c_plate.png": ("background", "no part found"),
        "x_other_side.jpg": ("alignment", "not aligned"),
        "y_other_size.png": ("background", "480x270"),
        "z_mirrored.png": ("alignment", "not aligned"),
    }
    assert set(reasons) == set(expected)
    for image, (step, words) in expected.items():
        assert reasons[image][0] == step
        assert words in reasons[image][1]
    front = tmp_path / "out/Part/front"
    assert InputSet.load(front / "out.npz").names == ("image_000.jpg", "image_001.jpg", "image_002.jpg")
    rows = {row["image"]: row for row in table(front)}
    assert len(rows) == 9
    for image, (_, reason) in reasons.items():
        assert rows[image]["status"] == "failed"
        assert rows[image]["reason"] == reason
    assert all(rows[f"image_00{i}.jpg"]["status"] == "ok" for i in range(3))
    assert len(names_in(front / "preprocessed_images/aligned_images")) == 3
    assert record(front, "alignment")["reference"] in {f"image_00{i}.jpg" for i in range(3)}


def test_a_type_that_cannot_be_aligned_does_not_stop_the_others(batch: Path, tmp_path: Path) -> None:
    photos = only_front(batch, tmp_path)
    for number in range(2):  # parts without features for the alignment
        plain = np.full((225, 400, 3), 230, np.uint8)
        plain[60:160, 100 + number : 300 + number] = (20, 90, 60)
        write_image(photos / f"plain/part_{number}.png", plain)
    for number in range(2):
        write_image(photos / f"void/empty_{number}.png", np.zeros((225, 400, 3), np.uint8))
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert outcome.done == 3
    failed = {(failure.type_name, failure.image, failure.step) for failure in outcome.failures}
    plain_ones = {("plain", f"part_{number}.png", "alignment") for number in range(2)}
    assert failed == plain_ones | {("void", f"empty_{number}.png", "background") for number in range(2)}
    assert (tmp_path / "out/Part/front/out.npz").is_file()
    assert not (tmp_path / "out/Part/plain/out.npz").exists()


def test_the_error_names_the_first_photograph_if_none_can_be_processed(tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / f"photos/void/empty_{number}.png", np.zeros((180, 320, 3), np.uint8))
    with pytest.raises(InputError, match=r"none of 2 images.*void/empty_0\.png: no part found"):
        preprocess(tmp_path / "photos", config=config_in(tmp_path), quiet=True)


def test_a_step_names_the_command_to_run_first(batch: Path, tmp_path: Path) -> None:
    config = config_in(tmp_path, *NO_FIGURES)
    photos = only_front(batch, tmp_path, count=2)
    with pytest.raises(InputError, match=r"front.*run remove_bg"):
        align(photos, config=config, quiet=True)
    remove_bg(photos, config=config, quiet=True)
    with pytest.raises(InputError, match=r"front.*run align"):
        make_input(photos, config=config, quiet=True)
    align(config=config, quiet=True)
    (tmp_path / "out/Part/front/metadata/reference.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"reference\.npz is missing or damaged; run align"):
        make_input(config=config, quiet=True)
    align(tmp_path / "out/Part/front", config=config, quiet=True)
    (tmp_path / "out/Part/front/preprocessed_images/aligned_images/image_001_aligned.png").unlink()
    outcome = make_input(config=config, quiet=True)
    assert outcome.done == 1
    assert [(failure.image, failure.step) for failure in outcome.failures] == [("image_001.jpg", "input")]
    assert InputSet.load(tmp_path / "out/Part/front/out.npz").names == ("image_000.jpg",)


def test_photographs_of_another_size_than_most_are_refused_before_they_are_decoded(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = only_front(batch, tmp_path, count=2)
    odd = cv2.resize(read_image(photos / "front/image_000.jpg"), (480, 270))
    write_image(photos / "front/first.png", odd)
    decoded: list[tuple[int, ...]] = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: decoded.append(decode(*given).shape) or decode(*given))
    config = config_in(tmp_path, *NO_FIGURES)
    outcome = remove_bg(photos, config=config, quiet=True)
    reason = "is 480x270, the photographs of its type are 400x225 pixels"
    assert [(failure.image, failure.reason) for failure in outcome.failures] == [("first.png", reason)]
    assert set(decoded) == {(225, 400, 3)}
    align(photos, config=config, quiet=True)
    assert record(tmp_path / "out/Part/front", "alignment")["reference"] in {"image_000.jpg", "image_001.jpg"}


def test_the_named_reference_has_the_right_size(batch: Path, tmp_path: Path) -> None:
    photos = only_front(batch, tmp_path, count=1)
    odd = cv2.resize(read_image(photos / "front/image_000.jpg"), (480, 270))
    write_image(photos / "front/first.png", odd)
    config = config_in(tmp_path, *NO_FIGURES)
    remove_bg(photos, config=config, quiet=True)
    named = config_in(tmp_path, *NO_FIGURES, "preprocessing.alignment.reference=first.png")
    outcome = remove_bg(photos, config=named, quiet=True)  # those that were done before, too
    assert outcome.done == 1
    assert {failure.image for failure in outcome.failures} == {"image_000.jpg"}


# --- the same each time


def test_processes_give_the_same_bytes_as_threads(done: tuple[Path, Outcome], batch: Path, tmp_path: Path) -> None:
    config = config_in(tmp_path, *NO_FIGURES, "execution.backend=processes", "execution.workers=2")
    preprocess(batch, config=config, quiet=True)
    again = tmp_path / "out/Part"
    files = sorted(path.relative_to(done[0]) for path in done[0].rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        if file.suffix == ".yaml":
            first, second = (yaml.safe_load((folder / file).read_text()) for folder in (done[0], again))
            assert first | {"created": ""} == second | {"created": ""}, file
        elif file.suffix != ".log":
            assert (done[0] / file).read_bytes() == (again / file).read_bytes(), file


def test_a_shifted_photograph_gives_the_same_channels(batch: Path, tmp_path: Path) -> None:
    photos = only_front(batch, tmp_path)
    photo = read_image(photos / "front/image_001.jpg")
    shift = np.array([[1, 0, 9], [0, 1, -6]], np.float64)
    moved = cv2.warpAffine(photo, shift, FRAME, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    write_image(photos / "front/image_001_moved.png", moved)
    config = config_in(tmp_path, *NO_FIGURES, "preprocessing.preprocessor.channels=[R,LAB_L,LAB_a,LAB_b,GradMag]")
    preprocess(photos, config=config, quiet=True)
    inputs = InputSet.load(tmp_path / "out/Part/front/out.npz")
    images = dict(zip(inputs.names, inputs.images(), strict=True))
    difference = np.abs(images["image_001.jpg"] - images["image_001_moved.png"])
    others = np.abs(images["image_001.jpg"] - images["image_002.jpg"])
    assert difference.mean() < 0.002
    assert difference.mean() < 0.1 * others.mean()
    assert np.quantile(difference[..., :4], 0.999) < 0.05


@pytest.mark.parametrize(
    ("name", "field", "command"),
    [("background", "status", "remove_bg"), ("alignment", "source", "align")],
)
def test_a_damaged_record_names_the_command_that_writes_it(
    done: tuple[Path, Outcome], tmp_path: Path, name: str, field: str, command: str
) -> None:
    shutil.copytree(done[0], tmp_path / "out/Part")
    path = tmp_path / f"out/Part/front/metadata/{name}.yaml"
    content = yaml.safe_load(path.read_text())
    del content["images"][1][field]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=rf"{name}\.yaml is damaged \(images\.1\.{field}: .*run {command} again"):
        make_input(config=config_in(tmp_path, *NO_FIGURES), quiet=True)
