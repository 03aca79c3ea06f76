"""From photographs to verdicts, with one model per type and with one for all, and commands on the results."""

from __future__ import annotations

import csv
import io
import json
import shutil
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from helpers import NO_FIGURES, write_configs
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from referencing import Registry, Resource
from sklearn.metrics import average_precision_score, roc_auc_score

import pixal
from pixal import cli
from pixal.inputs import InputSet
from pixal.io.images import read_image
from pixal.io.ownership import MANIFEST
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

pytestmark = pytest.mark.figures

TYPES = ("back", "front")
SETTINGS = (
    "model_training: {autoencoder_architecture: [8, 4], n_epochs: 8, calibration_folds: 3, one_hot_encoding: %s}\n"
)
NO_FIGURE_OPTIONS = [word for override in NO_FIGURES for word in ("--set", override)]
FRAME = (270, 480)


@dataclass
class Done:
    """A finished run: its working directory, its batch, and what it wrote to standard error."""

    folder: Path
    batch: Path
    messages: str

    @property
    def out(self) -> Path:
        return self.folder / "out" / "Part"

    @property
    def validate(self) -> Path:
        return self.folder / "validate" / "Part"


def run(*arguments: str | Path, status: int = 0) -> str:
    """Run a command in the working directory; return what it wrote to standard error."""
    messages = io.StringIO()
    with redirect_stderr(messages):
        actual = cli.main([str(argument) for argument in arguments])
    assert actual == status, messages.getvalue()
    return messages.getvalue()


def complete(folder: Path, batch: Path, *, one_hot: bool, options: list[str]) -> Done:
    """Preprocess, train and validate ``batch`` in ``folder``."""
    write_configs(folder, SETTINGS % one_hot)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PIXAL_TRACKING", "on")
        patch.setenv("PIXAL_TRACKING_TIMEOUT", "240")  # the process that writes the store has a low priority
        messages = run("preprocess", "-i", batch / "train/Part", "-q", *options)
        messages += run("train", "-q", *options)
        messages += run("validate", "-i", batch / "production/Part", "--truth", batch / "truth", "-q", *options)
    return Done(folder, batch, messages)


@pytest.fixture(scope="module")
def a_type(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One model per type, with all figures."""
    return complete(tmp_path_factory.mktemp("per_type"), rendered, one_hot=False, options=[])


@pytest.fixture(scope="module")
def one_hot(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One model for both types."""
    return complete(tmp_path_factory.mktemp("one_hot"), rendered, one_hot=True, options=NO_FIGURE_OPTIONS)


@pytest.fixture(params=["a_type", "one_hot"])
def done(request: pytest.FixtureRequest) -> Done:
    """Each of the two runs."""
    finished: Done = request.getfixturevalue(request.param)
    return finished


@pytest.fixture
def copied(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    """A copy of the run with one model per type, or of the run ``param``, as the working directory."""
    original: Done = request.getfixturevalue(getattr(request, "param", "a_type"))
    shutil.copytree(original.folder, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("ml*"))
    monkeypatch.chdir(tmp_path)
    return Done(tmp_path, original.batch, "")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(done: Done) -> list[dict[str, str]]:
    return table(done.validate / "results.csv")


def assert_alike(actual: list[dict[str, str]], expected: list[dict[str, str]]) -> None:
    """Equal rows to rounding: the number of parts that are multiplied together changes the order of sums."""
    assert len(actual) == len(expected)
    for row, expected_row in zip(actual, expected, strict=True):
        for key in ("score", "p_value"):
            assert float(row[key]) == pytest.approx(float(expected_row[key]), rel=1e-4)
        assert {k: v for k, v in row.items() if k not in ("score", "p_value")} == {
            k: v for k, v in expected_row.items() if k not in ("score", "p_value")
        }


def labels(done: Done, type_name: str) -> dict[str, int]:
    return {row["name"]: int(row["label"]) for row in table(done.batch / "truth" / type_name / "labels.csv")}


def record(path: Path) -> dict[str, Any]:
    actual: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return actual


# The files, and their content.


def test_quiet_runs_write_no_messages(done: Done) -> None:
    assert done.messages == ""


def test_all_files_of_the_contract_exist(a_type: Done) -> None:
    train = [f"image_{index:03d}" for index in range(10)]
    parts = [f"part_{index:03d}" for index in range(8)]
    for name in TYPES:
        expected = {
            *(f"preprocessed_images/background_removed/{image}_no_bg.png" for image in train),
            *(f"preprocessed_images/aligned_images/{image}_aligned.png" for image in train),
            "figures/aligned_metrics/results.csv",
            "figures/loss.png",
            "figures/accuracy.png",
            "out.npz",
            "metadata/preprocessing.yaml",
            "metadata/model_training.yaml",
            "model/pixal_autoencoder.keras",
            "model/pixal_autoencoder.weights.h5",
        }
        folder = a_type.out / name
        actual = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert expected <= actual, expected - actual
        for place in ("figures/aligned_metrics/matches", "figures/aligned_metrics/overlay_diagnostics"):
            assert len(list((folder / place).iterdir())) == len(train)
        assert {path.suffix for path in (folder / "logs").iterdir()} == {".log"}
        expected = {
            *(f"figures/anomaly_overlay_{part}.png" for part in parts),
            *(f"anomaly_maps/{part}.tiff" for part in parts),
            *(f"figures/{figure}.png" for figure in FIGURES),
            *(f"figures/{figure}.png" for figure in FIGURES_OF_TRUTH),
            "aligned_metrics/results.csv",
        }
        folder = a_type.validate / name
        actual = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert expected <= actual, expected - actual
        assert list((folder / "metadata").iterdir())
        assert list((folder / "logs").iterdir())
    for name in ("results.csv", "results.json", "report.html", "metrics.json"):
        assert (a_type.validate / name).is_file()
    hidden = [path for path in a_type.folder.rglob("*") if path.name.startswith((".", "unfinished_", "tmp"))]
    # The process that sends runs to MLflow may still be at work, with a lock in its folder.
    left = [path for path in hidden if path.name != MANIFEST and path.parent.name != "mlflow_unsent"]
    assert left == []


FIGURES = (
    "pixel_loss_histogram",
    "combined_distribution_log",
    "score_distribution",
    "anomaly_heatmap",
    "mse_per_pixel",
    "abs_loss_per_pixel",
    "latent_space",
    "value_distributions",
    *(f"pixel_predictions_{channel}" for channel in ("LAB_L", "LAB_a", "LAB_b", "GradMag")),
)
FIGURES_OF_TRUTH = ("roc_curve", "pr_curve", "confusion_matrix")


def test_one_hot_mode_has_one_model_for_the_component(one_hot: Done) -> None:
    for path in ("out.npz", "model/pixal_autoencoder.keras", "model/pixal_autoencoder.weights.h5"):
        assert (one_hot.out / path).is_file()
        assert not any((one_hot.out / name / path).exists() for name in TYPES)
    assert record(one_hot.out / "metadata/model_training.yaml")["types"] == list(TYPES)
    assert list(one_hot.validate.rglob("*.png")) == []  # all figures are turned off
    with np.load(one_hot.out / "out.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["labels"].sum(0), [10, 10])
        assert [str(name) for name in file["names"]] == [
            f"{name}/image_{index:03d}.jpg" for name in TYPES for index in range(10)
        ]
        assert [TYPES[row.argmax()] for row in file["labels"]] == [str(n).partition("/")[0] for n in file["names"]]


def test_the_input_file_agrees_with_the_metadata(a_type: Done) -> None:
    for name in TYPES:
        metadata = record(a_type.out / name / "metadata/preprocessing.yaml")
        with np.load(a_type.out / name / "out.npz", allow_pickle=False) as file:
            assert set(file.files) == {"data", "shape", "channels", "names"}
            assert list(file["shape"]) == metadata["shape"]
            assert file["data"].shape == (10, metadata["input_dim"]) == (10, int(np.prod(file["shape"])))
            assert file["data"].dtype == np.float32
            assert 0 <= file["data"].min() < 0.1
            assert 0.5 < file["data"].max() <= 1
            assert list(file["channels"]) == ["LAB_L", "LAB_a", "LAB_b", "GradMag"] == metadata["channels"]
            assert [str(n) for n in file["names"]] == [f"image_{index:03d}.jpg" for index in range(10)]
            assert record(a_type.out / name / "metadata/alignment.yaml")["reference"] in file["names"]
        box, (height, width, _) = metadata["crop_box"], metadata["shape"]
        assert (-(-box["height"] // 2), -(-box["width"] // 2)) == (height, width)  # pool_size 2
        assert metadata["settings"]["alignment"]["knn_ratio"] == 0.75
        assert metadata["versions"]["numpy"] == np.__version__


def test_the_table_of_verdicts(done: Done) -> None:
    rows = results(done)
    assert list(rows[0]) == [
        *("type", "image", "score", "p_value", "threshold", "verdict", "regions", "x", "y", "width", "height"),
        *("area_px", "reason"),
    ]
    assert [(row["type"], row["image"]) for row in rows] == [
        (name, f"part_{index:03d}.jpg") for name in TYPES for index in range(8)
    ]
    for row in rows:
        failed = float(row["score"]) > float(row["threshold"])
        assert row["verdict"] == ("fail" if failed else "pass")
        assert (int(row["regions"]) > 0) == failed
        assert 0 <= float(row["p_value"]) <= 1
        if failed:
            x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
            assert 0 <= x < x + width <= FRAME[1]
            assert 0 <= y < y + height <= FRAME[0]
            assert 0 < float(row["area_px"]) <= width * height * 1.01
    document = json.loads((done.validate / "results.json").read_text())
    assert [(p["image"], p["verdict"], p["score"]) for p in document["parts"]] == [
        (row["image"], row["verdict"], pytest.approx(float(row["score"]), rel=1e-8)) for row in rows
    ]


def test_planted_defects_fail_and_good_parts_pass(done: Done) -> None:
    for name in TYPES:
        truth = labels(done, name)
        rows = [row for row in results(done) if row["type"] == name]
        bad = [row["verdict"] == "fail" for row in rows if truth[Path(row["image"]).stem]]
        good = [row["verdict"] == "fail" for row in rows if not truth[Path(row["image"]).stem]]
        assert (len(bad), len(good)) == (4, 4)
        assert sum(bad) >= 3
        assert sum(good) <= 1


def test_the_measures_agree_with_the_table(done: Done) -> None:
    actual = json.loads((done.validate / "metrics.json").read_text())
    assert set(actual["types"]) == set(TYPES)
    groups = {name: [row for row in results(done) if row["type"] == name] for name in TYPES}
    known = {name: [labels(done, name)[Path(row["image"]).stem] for row in groups[name]] for name in TYPES}
    groups["overall"], known["overall"] = results(done), [*known["back"], *known["front"]]
    for name, rows in groups.items():
        measures = actual["types"].get(name, actual["overall"])
        truth, scores = np.array(known[name]), np.array([float(row["score"]) for row in rows])
        failed = np.array([row["verdict"] == "fail" for row in rows])
        assert measures["image_auroc"] == pytest.approx(roc_auc_score(truth, scores))
        assert measures["image_ap"] == pytest.approx(average_precision_score(truth, scores))
        assert measures["false_alarm_rate"] == pytest.approx(failed[truth == 0].mean())
        assert measures["detection_rate"] == pytest.approx(failed[truth == 1].mean())
        assert measures["f1_max"] == pytest.approx(max(f1(truth, scores >= cut) for cut in scores))
        if name != "overall":
            assert measures["image_auroc"] >= 0.95
            assert measures["pixel_auroc"] >= 0.95
            assert measures["aupro"] >= 0.8
            assert 0.6 <= measures["aupro_near_part"] < measures["aupro"]


def test_the_results_agree_with_the_schema(done: Done) -> None:
    docs = Path(__file__).parents[2] / "docs"
    schema, measures = (
        json.loads((docs / f"{name}.schema.json").read_text("utf-8")) for name in ("results", "metrics")
    )
    registry = Registry().with_resource(measures["$id"], Resource.from_contents(measures))
    document = json.loads((done.validate / "results.json").read_text("utf-8"))
    Draft202012Validator(schema, registry=registry).validate(document)
    assert document["metrics"] == json.loads((done.validate / "metrics.json").read_text("utf-8"))


def f1(truth: NDArray[np.int_], called: NDArray[np.bool_]) -> float:
    hits = int((truth[called] == 1).sum())
    return 2 * hits / (int(called.sum()) + int(truth.sum()))


def test_maps_show_the_planted_defects_in_the_frame_of_the_photograph(done: Done) -> None:
    for row in results(done):
        name = Path(row["image"]).stem
        values = tifffile.imread(done.validate / row["type"] / "anomaly_maps" / f"{name}.tiff")
        assert (values.dtype, values.shape) == (np.float16, FRAME)
        assert np.isfinite(values).all()
        assert values.min() == 0
        # Warping to the photograph interpolates: the largest value is slightly below the score.
        assert 0.7 * float(row["score"]) < values.max() <= 1.001 * float(row["score"])
        part = read_image(done.batch / "truth" / row["type"] / "foreground" / f"{name}.png")[..., 0] > 0
        assert values[cv2.dilate(part.astype(np.uint8), np.ones((9, 9))) == 0].max() == 0
        mask = done.batch / "truth" / row["type"] / "masks" / f"{name}.png"
        if row["verdict"] == "fail" and mask.is_file():
            near = cv2.dilate(read_image(mask)[..., 0], np.ones((11, 11))) > 0
            y, x = np.unravel_index(int(values.argmax()), values.shape)
            assert near[y, x]
            left, top, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
            assert left <= x < left + width
            assert top <= y < top + height


@pytest.mark.parametrize("stage", ["train", "production"])
def test_homographies_are_the_true_poses(done: Done, stage: str) -> None:
    for name in TYPES:
        poses = json.loads((done.batch / "truth" / name / "poses.json").read_text())
        folder = done.out / name / "figures" if stage == "train" else done.validate / name
        reference = record(done.out / name / "metadata/alignment.yaml")["reference"]
        rows = table(folder / "aligned_metrics/results.csv")
        assert list(rows[0]) == [
            *("image", "status", "reason", "inliers", "inlier_ratio", "ssim", "mse"),
            *(f"h{i}{j}" for i in range(3) for j in range(3)),
        ]
        assert len(rows) == (10 if stage == "train" else 8)
        corners = np.array([[[160, 90], [320, 90], [320, 180], [160, 180]]], float)  # well inside the part
        for row in rows:
            assert (row["status"], row["h22"]) == ("ok", "1")
            actual = np.array([[float(row[f"h{i}{j}"]) for j in range(3)] for i in range(3)])
            true = np.array(poses[Path(reference).stem]) @ np.linalg.inv(np.array(poses[Path(row["image"]).stem]))
            difference = cv2.perspectiveTransform(corners, actual) - cv2.perspectiveTransform(corners, true)
            assert np.linalg.norm(difference, axis=-1).max() < 1.0, row["image"]


def test_three_lines_of_python_rebuild_the_model(done: Done) -> None:
    from pixal.train_model.autoencoder.model import Autoencoder

    for index, name in enumerate(TYPES):
        home = done.out / name if (done.out / name / "model").is_dir() else done.out
        params = record(home / "metadata/model_training.yaml")
        model = Autoencoder(params)
        model.build_model(input_dim=params["input_dim"])
        model.load_weights(str(home / "model/pixal_autoencoder.weights.h5"))
        inputs = InputSet.load(done.validate / name / "out.npz")
        values = [np.asarray(inputs.data)]
        if home == done.out:
            label = np.zeros((len(inputs), len(TYPES)), np.float32)
            label[:, index] = 1
            values.append(label)
        error = values[0] - model.model(values, training=False).numpy()
        # The calibrated map, written out: error over spread, mean square over channels, blurred, root, its maximum.
        with np.load(home / "model/calibration.npz") as file:
            variance = file[f"variance_{index if home == done.out else 0}"]
        mask = PreprocessingState.load(home / f"model/preprocessing/{name}.npz").mask
        height, width = mask.shape
        squares = (error.reshape(-1, *inputs.shape) ** 2 / variance).mean(-1)[:, :height, :width] * mask
        blurred = [cv2.GaussianBlur(s, (0, 0), 1.0, borderType=cv2.BORDER_CONSTANT) * mask for s in squares]
        scores = [float(np.sqrt(one.max())) for one in blurred]
        rows = [row for row in results(done) if row["type"] == name]
        assert [row["image"] for row in rows] == list(inputs.names)
        np.testing.assert_allclose(scores, [float(row["score"]) for row in rows], rtol=1e-3)


def test_the_keras_file_gives_the_same_as_the_weights(a_type: Done) -> None:
    import keras

    from pixal.train_model.autoencoder.model import Autoencoder

    home = a_type.out / "front"
    params = record(home / "metadata/model_training.yaml")
    data = np.asarray(InputSet.load(home / "out.npz").data[:2])
    whole = keras.saving.load_model(home / "model/pixal_autoencoder.keras", compile=False)
    rebuilt = Autoencoder.load(home / "model", params)
    np.testing.assert_allclose(whole([data], training=False), rebuilt.model([data], training=False), atol=1e-6)


def test_mlflow_holds_the_runs(done: Done) -> None:
    from mlflow import MlflowClient

    assert (done.folder / "mlflow.db").is_file()
    client = MlflowClient(f"sqlite:///{(done.folder / 'mlflow.db').as_posix()}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "PIXAL"]
    # Latest first: the dict keeps the first run of each name. Tests on copies of the folder use the same store.
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    owners = TYPES if (done.out / "back/model").is_dir() else ("Part",)
    (batch,) = (name for name in runs if name.startswith("validate Part "))
    labels = {name: "train Part" if name == "Part" else f"train Part {name}" for name in owners}
    assert set(runs) == {*labels.values(), batch}
    for name in owners:
        home = done.out / name if name in TYPES else done.out
        metadata = record(home / "metadata/model_training.yaml")
        run_ = runs[labels[name]]
        assert run_.data.tags["pixal.model"] == metadata["fingerprint"]
        (data,) = run_.inputs.dataset_inputs
        assert metadata["input_sha256"].startswith(data.dataset.digest)
        assert run_.info.status == "FINISHED"
        assert run_.data.params["model_training.n_epochs"] == "8"
        assert run_.data.params["model_training.autoencoder_architecture"] == "[8, 4]"
        history = client.get_metric_history(run_.info.run_id, "loss")
        assert [metric.step for metric in history] == list(range(1, metadata["epochs_trained"] + 1))
        assert history[-1].value == pytest.approx(metadata["final_loss"])
        kept = {path: artifact_names(client, run_.info.run_id, path) for path in ("model", "metadata", "figures")}
        assert {"pixal_autoencoder.keras", "pixal_autoencoder.weights.h5"} <= kept["model"]
        assert {"preprocessing.yaml", "model_training.yaml"} <= kept["metadata"]
        assert "reconstructions.png" in kept["figures"]
    assert runs[batch].data.metrics["image_auroc"] == pytest.approx(
        json.loads((done.validate / "metrics.json").read_text())["overall"]["image_auroc"]
    )
    assert list((done.folder / "mlruns").rglob("pixal_autoencoder.keras"))


def artifact_names(client: Any, run_id: str, folder: str) -> set[str]:
    return {Path(artifact.path).name for artifact in client.list_artifacts(run_id, folder)}


# Commands on the results.


def test_validate_again_gives_the_same(copied: Done) -> None:
    before = (copied.validate / "results.csv").read_bytes()
    maps = {path: path.read_bytes() for path in copied.validate.rglob("*.tiff")}
    run("validate", "-i", copied.batch / "production/Part", "-q", *NO_FIGURE_OPTIONS)
    assert (copied.validate / "results.csv").read_bytes() == before
    assert len(maps) == 16
    assert {path: path.read_bytes() for path in copied.validate.rglob("*.tiff")} == maps


def test_a_message_names_what_is_left_out_without_truth(copied: Done) -> None:
    photos = copied.batch / "production/Part/front"
    messages = run("validate", "-i", photos, *NO_FIGURE_OPTIONS, "--set", "plotting.plot_roc_recall_curve=True")
    assert "no --truth: ROC and precision-recall curves and the confusion matrix are left out" in messages
    assert not any(list((copied.validate / "front").rglob(f"{name}.png")) for name in FIGURES_OF_TRUTH)
    assert not (copied.validate / "metrics.json").exists()
    for step in ("front: verdicts",):
        assert step in messages


def test_an_unusable_truth_is_an_error_before_the_work_starts(copied: Done) -> None:
    before = (copied.validate / "results.csv").stat().st_mtime_ns
    for truth in ("nowhere", copied.batch / "train"):
        messages = run("validate", "-i", copied.batch / "production/Part", "-q", "--truth", truth, status=2)
        assert messages.startswith("pixal: error: --truth")
        assert messages.count("\n") == 1
    assert (copied.validate / "results.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("copied", ["a_type", "one_hot"], indirect=True)
def test_detect_repeats_the_verdicts_of_validate_or_uses_another_threshold(copied: Done) -> None:
    before = results(copied)
    run("detect", "-q", *NO_FIGURE_OPTIONS)
    assert results(copied) == before
    run("detect", "-i", copied.validate / "front", "-q", *NO_FIGURE_OPTIONS)
    assert results(copied) == [row for row in before if row["type"] == "front"]
    fixed = ["--set", "validation.threshold.method=fixed", "--set"]
    run("detect", "-q", *NO_FIGURE_OPTIONS, *fixed, "validation.threshold.value=1000")
    assert {row["verdict"] for row in results(copied)} == {"pass"}
    assert [row["score"] for row in results(copied)] == [row["score"] for row in before]
    scores = sorted(float(row["score"]) for row in before)
    between = f"validation.threshold.value={(scores[5] + scores[6]) / 2}"
    messages = run("detect", "-q", "--fail-on-anomaly", *NO_FIGURE_OPTIONS, *fixed, between, status=4)
    assert messages == ""
    assert sum(row["verdict"] == "fail" for row in results(copied)) == 10


def test_a_looser_false_alarm_rate_lowers_the_threshold(copied: Done) -> None:
    before = {row["type"]: float(row["threshold"]) for row in results(copied)}
    run("detect", "-q", *NO_FIGURE_OPTIONS, "--set", "validation.false_alarm_rate=0.2")
    after = {row["type"]: float(row["threshold"]) for row in results(copied)}
    assert all(after[name] < before[name] for name in TYPES)


def test_a_numeric_loss_cut_is_a_threshold_on_the_raw_loss(copied: Done) -> None:
    options = ["-q", *NO_FIGURE_OPTIONS, "--set"]
    run("detect", *options, "plotting.loss_cut=-9")
    assert {row["verdict"] for row in results(copied)} == {"fail"}
    logs = [float(row["score"]) for row in results(copied)]
    assert {row["threshold"] for row in results(copied)} == {"-9"}
    run("detect", *options, "plotting.loss_cut=0.9", "--set", "plotting.use_log_loss=False")
    assert {row["verdict"] for row in results(copied)} == {"pass"}
    assert {row["p_value"] for row in results(copied)} == {""}
    np.testing.assert_allclose(np.log10([float(row["score"]) for row in results(copied)]), logs, rtol=1e-6)


def test_a_single_image_gets_the_same_verdict_as_in_the_batch(copied: Done) -> None:
    rows = [row for row in results(copied) if row["type"] == "front"]
    bad = next(row for row in rows if row["verdict"] == "fail")
    good = next(row for row in rows if row["verdict"] == "pass")
    photos = copied.batch / "production/Part/front"
    settings = pixal.load_config(overrides=NO_FIGURE_OPTIONS[1::2])
    batch = pixal.validate(photos / bad["image"], config=settings, quiet=True)
    assert (batch.failed, len(batch.parts)) == (1, 1)
    assert_alike(results(copied), [bad])
    assert not (copied.validate / "back").exists()  # the results of the earlier batch are removed
    run("validate", "-i", photos / good["image"], "-q", "--fail-on-anomaly", *NO_FIGURE_OPTIONS)
    assert_alike(results(copied), [good])


def test_images_that_cannot_be_processed_are_rows_with_a_reason(copied: Done) -> None:
    photos = Path("new/front")
    photos.mkdir(parents=True)
    source = copied.batch / "production/Part/front/part_000.jpg"
    shutil.copy(source, photos / "a.jpg")
    (photos / "b.jpg").write_bytes(source.read_bytes()[:4000])
    cv2.imwrite(str(photos / "c.png"), np.zeros((*FRAME, 3), np.uint8))
    cv2.imwrite(str(photos / "d.png"), cv2.resize(read_image(source), (400, 300)))
    shutil.copy(copied.batch / "production/Part/back/part_000.jpg", photos / "e.jpg")
    messages = run("validate", "-i", "new", "-q", *NO_FIGURE_OPTIONS, status=3).splitlines()
    reasons = {"b.jpg": "truncated", "c.png": "no part found", "d.png": "is 400x300", "e.jpg": "not aligned"}
    assert len(messages) == len(reasons)
    for line, (name, reason) in zip(messages, reasons.items(), strict=True):
        assert line.startswith(f"pixal: not processed: front/{name}: ")
        assert reason in line
    rows = results(copied)
    assert [row["verdict"] == "error" for row in rows] == [False, True, True, True, True]
    assert all(reasons[row["image"]] in row["reason"] and not row["score"] for row in rows[1:])


def test_an_untrained_type_is_named(copied: Done) -> None:
    shutil.copytree(copied.batch / "production/Part/front", "new/side")
    messages = run("validate", "-i", "new", "-q", status=2)
    assert messages == "pixal: error: type side was never trained (trained in out/Part: back, front)\n"
    shutil.rmtree(copied.out / "front/metadata")
    messages = run("validate", "-i", copied.batch / "production/Part", "-q", status=2)
    assert messages == "pixal: error: type front was never trained (trained in out/Part: back)\n"


@pytest.mark.slow
def test_inputs_that_do_not_match_the_model_are_refused(copied: Done) -> None:
    def refused(*arguments: str | Path) -> str:
        messages = run(*arguments, "-q", *NO_FIGURE_OPTIONS, status=2)
        assert messages.startswith("pixal: error: ")
        assert messages.count("\n") == 1
        return messages

    path = copied.validate / "back/out.npz"
    whole = path.read_bytes()
    shutil.copy(copied.out / "back/out.npz", path)
    assert "does not match the model of back (its names differ)" in refused("detect")
    path.write_bytes(whole[:3000])
    assert "damaged" in refused("detect")
    path.write_bytes(whole)
    # Trained again on other inputs: the inputs stored by validate do not match any more.
    run("make_input", "-i", copied.out / "back", "-q", "--set", "preprocessing.preprocessor.pool_size=4")
    assert results(copied)
    run("train", "-i", copied.out / "back/out.npz", "-q", *NO_FIGURE_OPTIONS, "--set", "model_training.n_epochs=1")
    assert "does not match the model of back (its shape differs)" in refused("detect")
    weights = copied.out / "front/model/pixal_autoencoder.weights.h5"
    shutil.copy(copied.out / "back/model/pixal_autoencoder.weights.h5", weights)
    assert "is not the file that training wrote" in refused("validate", "-i", copied.batch / "production/Part")
    weights.unlink()
    assert "is missing; run train again" in refused("validate", "-i", copied.batch / "production/Part")
    assert "Keras has no optimizer 'adamm'" in refused("train", "--set", "model_training.optimizer=adamm")


@pytest.mark.parametrize("copied", ["one_hot"], indirect=True)
def test_photographs_of_a_mixed_folder_get_their_type_by_alignment(copied: Done) -> None:
    before = {(row["type"], row["image"]): row for row in results(copied)}
    Path("mixed").mkdir()
    for name in TYPES:
        for index in range(3):
            image = f"part_{index:03d}.jpg"
            shutil.copy(copied.batch / "production/Part" / name / image, f"mixed/{index}_{name}.jpg")
    run("validate", "-i", "mixed", "-q", *NO_FIGURE_OPTIONS)
    expected = [
        before[name, f"part_{index:03d}.jpg"] | {"image": f"{index}_{name}.jpg"} for name in TYPES for index in range(3)
    ]
    assert_alike(results(copied), expected)
    run("validate", "-i", "mixed/1_front.jpg", "-q", *NO_FIGURE_OPTIONS)
    assert_alike(results(copied), [expected[4]])
