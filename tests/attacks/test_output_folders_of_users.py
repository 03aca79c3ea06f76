"""Output folders that are, hold or lie in something of the user's: nothing of it is removed or overwritten."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import pixal
from pixal.cli import main
from pixal.config import load_config
from pixal.config.loading import DEFAULTS
from pixal.errors import InputError
from pixal.io.ownership import MANIFEST

pytestmark = pytest.mark.slow

VALIDATED = Path("validate/Part")


@pytest.fixture
def work(trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a trained model, and two photographs of its type in ``new/Part/front``."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Path("new/Part/front").mkdir(parents=True)
    for path in sorted((rendered / "production/Part/front").iterdir())[:2]:
        shutil.copy(path, "new/Part/front")
    return tmp_path


def configure(**entries: str) -> None:
    """Change entries of ``paths.yaml``."""
    lines = Path("configs/paths.yaml").read_text().splitlines()
    lines = [line for line in lines if line.split(":")[0] not in entries]
    lines += [f"{entry}: {value}" for entry, value in entries.items()]
    Path("configs/paths.yaml").write_text("\n".join(lines) + "\n")


def hashes(*folders: str) -> Mapping[str, str]:
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def assert_refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    """The command ends with status 2 and one line; no file is changed, removed or added."""
    before = hashes(".")
    assert main([*arguments, "-q"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert hashes(".") == before


@pytest.mark.parametrize(
    "value", ["{component: Part, base: ./new}", "./new", "./new/Part/front", "{component: results, base: ./new/Part}"]
)
@pytest.mark.parametrize("source", ["new/Part", "new/Part/front"])
def test_results_among_the_photographs(work: Path, capsys: pytest.CaptureFixture[str], value: str, source: str) -> None:
    if value.startswith("{component: results") and source.endswith("front"):
        pytest.skip("separate folders")
    configure(component_validate_path=value)
    assert_refused(capsys, "validate", "-i", source)
    assert_refused(capsys, "validate", "-i", source, "--force")


@pytest.mark.parametrize("command", ["preprocess", "remove_bg", "validate"])
def test_both_roots_are_one_folder(work: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    configure(component_validate_path="{component: Part, base: ./out}")
    assert_refused(capsys, command, "-i", "new/Part")
    assert_refused(capsys, "train")


@pytest.mark.parametrize("folder", ["./pngs", "./pngs/../pngs", "./link"])
def test_cut_outs_into_a_folder_of_photographs(work: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    Path("pngs").mkdir()
    Path("link").symlink_to("pngs")
    for index in range(3):
        Path(f"pngs/photo_{index}.png").write_bytes(bytes([index]))
    configure(background_removed_path=folder)
    assert_refused(capsys, "preprocess", "-i", "photographs/front")
    assert_refused(capsys, "preprocess", "-i", "photographs/front", "--force")
    assert_refused(capsys, "preprocess", "-i", "pngs")


def test_notes_of_the_user_stay(work: Path) -> None:
    """In every folder of the results and of the model, over every command that writes."""
    pixal.validate("new/Part", quiet=True)
    notes = {}
    folders = [path for root in ("validate", "out") for path in Path(root).rglob("*") if path.is_dir()]
    for folder in [*folders, Path("out"), Path("validate")]:
        for name in ("notes.txt", "mine.png", "mine.jpg", "mine.tiff", "mine.h5"):
            (folder / name).write_text(f"{folder} {name}")
            notes[folder / name] = f"{folder} {name}"
    pixal.validate("new/Part", force=True, quiet=True)
    pixal.validate(next(Path("new/Part/front").iterdir()), quiet=True)
    pixal.detect(quiet=True)
    pixal.preprocess("photographs/front", force=True, quiet=True)
    pixal.train(quiet=True)
    pixal.validate("new/Part", quiet=True)
    assert len(notes) > 50
    assert {path: path.read_text() for path in notes if path.is_file()} == notes


def test_a_file_of_the_user_with_the_name_of_an_output(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(Path("new/Part/front").iterdir()).stem
    for file in (
        VALIDATED / "results.csv",
        VALIDATED / f"front/figures/anomaly_overlay_{name}.png",
        VALIDATED / f"front/anomaly_maps/{name}.tiff",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("of the user")
        assert_refused(capsys, "validate", "-i", "new/Part")
        file.unlink()
    pixal.validate("new/Part", quiet=True)


def test_photographs_are_never_changed(work: Path) -> None:
    before = hashes("new", "photographs")
    pixal.preprocess("photographs/front", force=True, quiet=True)
    pixal.validate("new/Part", force=True, quiet=True)
    assert hashes("new", "photographs") == before


def test_folders_of_an_earlier_version_are_taken_over(work: Path) -> None:
    """Versions before this one kept no manifests; their files are known by their names."""
    pixal.validate("new/Part", quiet=True)
    images = Path("validate/Part/front/report")  # named after their content, which the new threshold changes
    before = [path for path in hashes("validate/Part/front") if not Path(path).is_relative_to(images)]
    for manifest in Path().rglob(MANIFEST):
        manifest.unlink()
    Path("validate/Part/front/figures/notes.txt").write_text("mine")
    config = load_config(overrides=["validation.false_alarm_rate=0.2"])
    pixal.validate("new/Part", config=config, force=True, quiet=True)
    pixal.preprocess("photographs/front", force=True, quiet=True)
    pixal.train(quiet=True)
    assert Path("validate/Part/front/figures/notes.txt").read_text() == "mine"
    assert {Path(path).name for path in before} <= {path.name for path in Path("validate/Part/front").rglob("*")}


def test_a_demo_in_the_users_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/paths.yaml").write_text("of the user")
    with pytest.raises(InputError, match="choose a new folder"):
        pixal.demo(tmp_path, config=DEFAULTS, quiet=True)
    assert (tmp_path / "configs/paths.yaml").read_text() == "of the user"
