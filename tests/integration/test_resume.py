"""Preprocessing skips work that is already done, repeats work whose inputs changed, and resumes after a kill."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import config_in

from pixal.errors import InputError
from pixal.io.images import read_image, write_image
from pixal.io.locking import lock_folder
from pixal.synthetic import write_batch
from pixal.tasks.photographs.preprocessing import align_photograph, background_step
from pixal.tasks.photographs.preprocessing.pipeline import align, make_input, preprocess, remove_bg
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.training_data import find_training_data

Files = dict[str, tuple[float, str]]
"""Modification time and SHA-256 of each file, by path."""


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    write_batch(folder, component="Part", types=("front",), train=4, good=0, bad=0, frame_size=(320, 180))
    return folder / "train/Part"


@pytest.fixture(scope="module")
def first_run(batch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of one complete run; read only."""
    folder = tmp_path_factory.mktemp("first_run")
    preprocess(batch, config=make_config(folder), quiet=True)
    return folder


@pytest.fixture
def earlier_run(first_run: Path, batch: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a copy of the first run, with its file times, and a copy of its photographs."""
    shutil.copytree(first_run / "out", tmp_path / "out")
    shutil.copytree(batch, tmp_path / "photos")
    return tmp_path, tmp_path / "photos"


def make_config(folder: Path, *overrides: str, metrics: bool = False) -> PhotographConfig:
    return config_in(folder, *overrides, f"preprocessing.save_metrics={metrics}")


def output_files(folder: Path) -> Files:
    root = folder / "out/Part/front"
    paths = [path for path in root.rglob("*") if path.suffix in (".png", ".jpg", ".npz")]
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    }


def digests(files: Files) -> dict[str, str]:
    return {name: digest for name, (_, digest) in files.items()}


def rewritten(before: Files, after: Files) -> set[str]:
    return {Path(name).name for name, (time, _) in after.items() if name not in before or before[name][0] != time}


def stems(names: set[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}


def record(folder: Path, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / f"out/Part/front/metadata/{name}.yaml").read_text()))


def test_a_second_run_writes_no_file_and_the_same_records(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    before = output_files(folder)
    records = {name: record(folder, name) for name in ("background", "alignment", "preprocessing")}
    table = (folder / "out/Part/front/figures/aligned_metrics/results.csv").read_bytes()
    outcome = preprocess(photos, config=make_config(folder), quiet=True)
    assert (outcome.done, outcome.failures) == (4, [])
    assert rewritten(before, output_files(folder)) == set()
    assert digests(output_files(folder)) == digests(before)
    assert (folder / "out/Part/front/figures/aligned_metrics/results.csv").read_bytes() == table
    for name, content in records.items():
        now = record(folder, name)
        for rows in (content, now):  # the photographs were copied to another folder
            rows.pop("created")
            for row in [*rows.get("images", []), *rows.get("made", [{}])[0].get("images", {}).get("front", [])]:
                row.pop("source")
        assert now == content
    assert not list((folder / "out").rglob("*.journal"))


def test_force_repeats_all_work(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    before = output_files(folder)
    preprocess(photos, config=make_config(folder), force=True, quiet=True)
    after = output_files(folder)
    same = {"reference.npz", "preprocessing.npz"}  # files of arrays are only written if they change
    assert rewritten(before, after) == {Path(name).name for name in before} - same
    assert digests(after) == digests(before)


@pytest.mark.parametrize(
    ("module", "suffix"),
    [(background_step, "_no_bg.png"), (align_photograph, "_aligned.png")],
    ids=["background", "align"],
)
def test_a_killed_run_resumes(
    first_run: Path, batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, suffix: str
) -> None:
    write: Callable[..., None] = module.write_bytes
    written = []

    def killed(path: Path, data: bytes, **options: Any) -> None:
        if path.name.endswith(suffix):
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(path.name.removesuffix(suffix))
        write(path, data, **options)

    config = make_config(tmp_path, "execution.workers=1")
    monkeypatch.setattr(module, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        preprocess(batch, config=config, quiet=True)
    monkeypatch.undo()
    metadata = tmp_path / "out/Part/front/metadata"
    assert not (metadata / "alignment.yaml").exists()
    journal = metadata / ("background.journal" if suffix == "_no_bg.png" else "alignment.journal")
    with journal.open("ab") as file:
        file.write(b'{"file": "image_003')  # a line that was cut off
    before = output_files(tmp_path)
    preprocess(batch, config=config, quiet=True)
    after = output_files(tmp_path)
    names = {f"image_00{number}" for number in range(4)}
    assert stems(rewritten(before, after), suffix) == names - set(written)
    assert digests(after) == digests(output_files(first_run))
    assert not list(metadata.glob("*.journal"))


def test_only_a_changed_photograph_is_processed_again(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    reference = record(folder, "alignment")["reference"]
    changed = next(path for path in sorted((photos / "front").iterdir()) if path.name != reference)
    image = read_image(changed)
    image[:4, :4] = 255 - image[:4, :4]
    write_image(changed, image, quality=100)
    before = output_files(folder)
    preprocess(photos, config=make_config(folder, f"preprocessing.alignment.reference={reference}"), quiet=True)
    names = rewritten(before, output_files(folder))
    assert stems(names, "_no_bg.png") == {changed.stem}
    assert stems(names, "_aligned.png") == {changed.stem}
    assert {"reference.npz", "out.npz"} <= names


def test_outputs_follow_added_and_removed_photographs(earlier_run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, photos = earlier_run
    extra = tmp_path / "extra"
    write_batch(extra, component="Part", types=("front",), train=5, good=0, bad=0, frame_size=(320, 180))
    shutil.copy(extra / "train/Part/front/image_004.jpg", photos / "front")
    reference = record(folder, "alignment")["reference"]
    removed = next(path for path in sorted((photos / "front").iterdir()) if path.name != reference)
    removed.unlink()
    before = output_files(folder)
    preprocess(photos, config=make_config(folder, f"preprocessing.alignment.reference={reference}"), quiet=True)
    after = output_files(folder)
    assert stems(rewritten(before, after), "_aligned.png") == {"image_004"}
    assert not [name for name in after if removed.stem in name]
    clean = tmp_path / "clean"
    preprocess(photos, config=make_config(clean, f"preprocessing.alignment.reference={reference}"), quiet=True)
    assert digests(output_files(clean)) == digests(after)


@pytest.mark.parametrize(
    ("setting", "rewritten_suffixes", "kept_suffixes"),
    [
        ("alignment.knn_ratio=0.7", {"_aligned.png", "out.npz"}, {"_no_bg.png"}),
        ("preprocessor.pool_size=3", {"out.npz"}, {"_no_bg.png", "_aligned.png"}),
        ("remove_background.max_workers=1", set(), {"_no_bg.png", "_aligned.png", "out.npz"}),
    ],
)
def test_a_changed_setting_repeats_the_steps_that_use_it(
    earlier_run: tuple[Path, Path], setting: str, rewritten_suffixes: set[str], kept_suffixes: set[str]
) -> None:
    folder, photos = earlier_run
    before = output_files(folder)
    preprocess(photos, config=make_config(folder, f"preprocessing.{setting}"), quiet=True)
    names = rewritten(before, output_files(folder))
    for suffix in rewritten_suffixes:
        assert [name for name in names if name.endswith(suffix)], suffix
    for suffix in kept_suffixes:
        assert not [name for name in names if name.endswith(suffix)], suffix


def test_damaged_and_deleted_files_are_written_again(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    before = output_files(folder)
    images = folder / "out/Part/front/preprocessed_images"
    os.truncate(images / "background_removed/image_001_no_bg.png", 500)
    (images / "aligned_images/image_002_aligned.png").unlink()
    (folder / "out/Part/front/figures/aligned_metrics/matches/image_003_matches.jpg").unlink()
    preprocess(photos, config=make_config(folder), quiet=True)
    after = output_files(folder)
    assert digests(after) == digests(before)
    names = rewritten(before, after)
    assert stems(names, "_no_bg.png") == {"image_001"}
    assert {"image_002", "image_003"} <= stems(names, "_aligned.png")
    assert "image_000" not in stems(names, "_aligned.png")


def test_another_version_of_pixal_repeats_all_work(
    earlier_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, photos = earlier_run
    before = output_files(folder)
    monkeypatch.setattr("pixal.io.provenance.__version__", "99.0")
    preprocess(photos, config=make_config(folder), quiet=True)
    names = rewritten(before, output_files(folder))
    assert len(stems(names, "_no_bg.png")) == len(stems(names, "_aligned.png")) == 4


def test_a_mask_edited_by_hand_is_used(earlier_run: tuple[Path, Path]) -> None:
    folder, _ = earlier_run
    before = output_files(folder)
    path = folder / "out/Part/front/preprocessed_images/background_removed/image_001_no_bg.png"
    rgba = read_image(path)
    rgba[..., 3][np.argwhere(rgba[..., 3] > 0)[0][0]] = 0
    write_image(path, rgba)
    align(config=make_config(folder), quiet=True)
    make_input(config=make_config(folder), quiet=True)
    names = rewritten(before, output_files(folder))
    assert "image_001" in stems(names, "_aligned.png")
    assert "out.npz" in names


def test_a_figure_is_drawn_again_if_it_is_missing_or_has_no_fingerprint(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    figures = folder / "out/Part/front/figures"
    metrics = figures / "aligned_metrics/metrics.png"
    config = make_config(folder, metrics=True)
    preprocess(photos, config=config, quiet=True)
    before = output_files(folder)
    for path in (figures / "consensus.png", figures / "channels.png", metrics):  # a killed run did not draw them
        path.unlink()
    preprocess(photos, config=config, quiet=True)
    assert digests(output_files(folder)) == digests(before)
    for path in (figures / "crop_preview.png", figures / "channels.png", metrics):  # newer than their sources
        write_image(path, read_image(path))
    preprocess(photos, config=config, quiet=True)
    assert digests(output_files(folder)) == digests(before)


def test_a_figure_follows_the_settings_that_it_shows(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    preprocess(photos, config=make_config(folder, metrics=True), quiet=True)
    before = output_files(folder)
    limit = "preprocessing.alignment.MIN_SCORE_THRESHOLD=0.4"
    preprocess(photos, config=make_config(folder, limit, metrics=True), quiet=True)
    assert "metrics.png" in rewritten(before, output_files(folder))


def test_file_times_do_not_matter(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    for number, path in enumerate(sorted((folder / "out").rglob("*"))):
        os.utime(path, (10**9 - number, 10**9 - number))
    before = output_files(folder)
    preprocess(photos, config=make_config(folder), quiet=True)
    assert rewritten(before, output_files(folder)) == set()


def run_align(photos: Path, **options: Any) -> object:
    return align(photos, **options)


@pytest.mark.parametrize("step", [remove_bg, run_align])
def test_a_step_that_changes_nothing_leaves_the_later_steps_done(
    earlier_run: tuple[Path, Path], step: Callable[..., object]
) -> None:
    folder, photos = earlier_run
    config = make_config(folder)
    before = output_files(folder)
    step(photos, config=config, quiet=True)
    assert len(find_training_data(None, config)) == 1
    assert output_files(folder) == before
    assert not list((folder / "out").rglob("*.journal"))
    make_input(config=config, quiet=True)
    assert output_files(folder) == before


@pytest.mark.parametrize(
    ("step", "commands"), [(remove_bg, "run align and make_input, or preprocess"), (run_align, "run make_input")]
)
def test_a_step_that_changes_something_names_the_commands_to_run(
    earlier_run: tuple[Path, Path], step: Callable[..., object], commands: str
) -> None:
    folder, photos = earlier_run
    name = "image_001"
    if step is remove_bg:
        (photos / "front" / f"{name}.jpg").unlink()
    else:
        mask = folder / f"out/Part/front/preprocessed_images/background_removed/{name}_no_bg.png"
        rgba = read_image(mask)
        rgba[..., 3][np.argwhere(rgba[..., 3] > 0)[0][0]] = 0
        write_image(mask, rgba)
    step(photos, config=make_config(folder), quiet=True)
    with pytest.raises(InputError, match=rf"metadata/preprocessing\.yaml does not exist: .*; {commands}$"):
        find_training_data(None, make_config(folder))


def test_a_forced_step_makes_the_later_steps_stale(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    remove_bg(photos, config=make_config(folder), force=True, quiet=True)
    with pytest.raises(InputError, match="run align and make_input, or preprocess"):
        find_training_data(None, make_config(folder))


@pytest.mark.parametrize("locked", ["out/Part", "out/Part/front"])
@pytest.mark.parametrize("step", [preprocess, remove_bg, run_align, make_input])
def test_two_runs_on_one_component_are_refused(
    earlier_run: tuple[Path, Path], step: Callable[..., object], locked: str
) -> None:
    """The component is locked by another run of preprocess, the type by a run of train."""
    folder, photos = earlier_run
    before = output_files(folder)
    with lock_folder(folder / locked), pytest.raises(InputError, match="another run of pixal is writing in"):
        step(photos, config=make_config(folder), force=True, quiet=True)
    assert output_files(folder) == before
    assert record(folder, "preprocessing")


@pytest.mark.parametrize("figure", ["save_channels", "save_crop_figures", "save_alignment_metrics"])
def test_a_record_is_written_after_the_figures(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: str
) -> None:
    """Otherwise a run that is killed while it draws leaves a record that says that all is done."""

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pixal.tasks.photographs.preprocessing.figures.{figure}", killed)
    config = make_config(tmp_path, metrics=True)
    with pytest.raises(KeyboardInterrupt):
        preprocess(batch, config=config, quiet=True)
    metadata = tmp_path / "out/Part/front/metadata"
    assert (metadata / "alignment.yaml").exists() == (figure != "save_alignment_metrics")
    assert not (metadata / "preprocessing.yaml").exists()
    monkeypatch.undo()
    preprocess(batch, config=config, quiet=True)
    figures = tmp_path / "out/Part/front/figures"
    assert all((figures / name).is_file() for name in ("channels.png", "consensus.png", "aligned_metrics/metrics.png"))


def test_training_data_that_change_before_the_lock_are_refused(earlier_run: tuple[Path, Path]) -> None:
    folder, photos = earlier_run
    config = make_config(folder)
    (data,) = find_training_data(None, config)
    data.check_unchanged()
    preprocess(photos, config=config, force=True, quiet=True)
    with pytest.raises(InputError, match=r"out\.npz has changed since train was started; run train again"):
        data.check_unchanged()
