"""``export``, ``import`` and ``validate --model FILE``: the same verdicts elsewhere, and no damaged file is used."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pixal
from pixal.cli import main
from pixal.errors import InputError, ModelError
from pixal.io.records import with_hash
from pixal.train_model.model_file.archive import unpack_model_file
from pixal.train_model.model_file.importing import REPLACED_FOLDER
from pixal.train_model.model_file.manifest import MANIFEST
from tests.helpers import Killed, kill_at, train_front, write_configs

SETTINGS = (
    "model_training: {model: gaussian}\n"
    "preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False}\n"
    "plotting: {plot_anomaly_heatmap: False, plot_distributions: False, plot_latent_space: False}\n"
)
ROOT = Path("out/Part/front")


@pytest.fixture(scope="module")
def home(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a Gaussian model, ``front.pixal`` and two photographs in ``batch/front``. Read only."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIXAL_TRACKING", "off")
        train_front(folder, rendered, SETTINGS)
        patch.chdir(folder)
        pixal.export("front", out="front.pixal")
    (folder / "batch/front").mkdir(parents=True)
    for path in sorted((rendered / "production/Part/front").iterdir())[:2]:
        shutil.copy(path, folder / "batch/front")
    return folder


@pytest.fixture
def elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another working directory, with the same settings and no model."""
    monkeypatch.setenv("PIXAL_TRACKING", "off")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    write_configs(tmp_path, SETTINGS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list((tmp_path / "tmp").glob("pixal_*")), "nothing unpacked is left behind"


def results(folder: Path) -> bytes:
    return (folder / "validate/Part/results.csv").read_bytes()


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_verdicts_are_the_same_after_the_journey(home: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, model = home / "batch", home / "front.pixal"
    with monkeypatch.context() as patch:
        patch.chdir(home)
        pixal.validate(batch, quiet=True)
    pixal.validate(batch, model=str(model), quiet=True)
    assert results(elsewhere) == results(home)
    assert not (elsewhere / "out").exists(), "the file is used as it lies"
    report = json.loads((elsewhere / "validate/Part/results.json").read_text())
    assert str(model) in json.dumps(report), "the results name the model file"
    pixal.detect(quiet=True)
    assert results(elsewhere) == results(home)
    pixal.import_(model)
    pixal.validate(batch, force=True, quiet=True)
    assert results(elsewhere) == results(home)
    assert pixal.export(out="again.pixal").read_bytes() == model.read_bytes()


@pytest.mark.slow
def test_a_model_of_all_types(home: Path, rendered: Path, elsewhere: Path) -> None:
    config = pixal.load_config("configs", ["model_training.one_hot_encoding=True"])
    for name in ("front", "back"):
        shutil.copytree(rendered / f"train/Part/{name}", f"photographs/{name}")
        for path in sorted(Path(f"photographs/{name}").iterdir())[3:]:
            path.unlink()
    pixal.preprocess("photographs", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    path = pixal.export(config=config)
    assert path.name == "Part.pixal"
    with pytest.raises(InputError, match="leave out front"):
        pixal.export("front", config=config)
    pixal.validate(home / "batch", config=config, quiet=True)
    expected = results(elsewhere)
    for folder in ("out", "validate"):
        shutil.rmtree(folder)
    with pytest.raises(InputError, match="one_hot_encoding: True"):
        pixal.import_(path)
    pixal.validate(home / "batch", model=str(path), config=config, quiet=True)
    assert results(elsewhere) == expected
    pixal.detect(config=config, quiet=True)
    assert results(elsewhere) == expected
    pixal.import_(path, config=config)
    pixal.validate(home / "batch", config=config, force=True, quiet=True)
    assert results(elsewhere) == expected


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_a_changed_byte_is_refused(share: float, home: Path, elsewhere: Path) -> None:
    data = bytearray((home / "front.pixal").read_bytes())
    data[round(share * (len(data) - 1))] ^= 1
    Path("bad.pixal").write_bytes(data)
    for use in (pixal.import_, lambda path: pixal.validate(home / "batch", model=path, quiet=True)):
        with pytest.raises((InputError, ModelError), match=r"bad\.pixal"):
            use("bad.pixal")
    assert files_below(elsewhere) == {"bad.pixal", *(f"configs/{path.name}" for path in Path("configs").iterdir())}


Members = dict[str, bytes]


def changed_manifest(**values: object) -> Callable[[Members], Members]:
    """Change values of the manifest, and give it the right hash again."""

    def change(members: Members) -> Members:
        content = json.loads(members[MANIFEST]) | values
        return members | {MANIFEST: json.dumps(with_hash(content)).encode()}

    return change


def rewritten(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A model file with these members, and the right hash of its bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = bytes(64)
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    data = buffer.getvalue()[:-64]
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    return data


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed_manifest(), None),
        (changed_manifest(format=2), "install that version"),
        (changed_manifest(pixal_version="99.1.0"), r"PIXAL 99\.1\.0 wrote it"),
        (changed_manifest(type="../front"), "cannot be the name of a folder"),
        (changed_manifest(type="back"), "names the type back"),
        (changed_manifest(task="charge_clusters"), "the task charge_clusters"),
        (lambda members: members | {MANIFEST: members[MANIFEST].replace(b"gaussian", b"gauss")}, "was changed"),
        (lambda members: members | {MANIFEST: b"[" * 100_000}, "not JSON"),
        (lambda members: {k: v for k, v in members.items() if k != MANIFEST}, f"has no {MANIFEST}"),
        (lambda members: {k: v for k, v in members.items() if "calibration" not in k}, "calibration.npz is missing"),
        (lambda members: members | {"model/extra.npz": b"1"}, r"extra\.npz' is not listed|extra\.npz is not listed"),
        (lambda members: members | {"../outside": b"1"}, "leads out of the folder"),
        (lambda members: members | {"/tmp/outside": b"1"}, "leads out of the folder"),
        (lambda members: members | {"a\\..\\outside": b"1"}, "leads out of the folder"),
        (lambda members: members | {"C:/outside": b"1"}, "leads out of the folder"),
        (lambda members: members | {"Manifest.json": b"1"}, "two members of the same name"),
        (lambda members: members | {"model/conditions.npz": members["model/conditions.npz"][:-1]}, "another size"),
        (
            lambda members: members | {"model/conditions.npz": bytes(len(members["model/conditions.npz"]))},
            "conditions.npz was changed",
        ),
    ],
)
def test_a_forged_file_is_refused_with_the_reason(
    change: Callable[[Members], Members], reason: str | None, home: Path, elsewhere: Path
) -> None:
    with zipfile.ZipFile(home / "front.pixal") as archive:
        members = change({name: archive.read(name) for name in archive.namelist()})
    rewritten(Path("forged.pixal"), members)
    if reason is None:  # the forger's tools work
        pixal.import_("forged.pixal")
        return
    with pytest.raises(InputError, match=reason):
        pixal.import_("forged.pixal")
    assert not Path("out").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(home: Path, elsewhere: Path) -> None:
    with zipfile.ZipFile(home / "front.pixal") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rewritten(Path("bomb.pixal"), members | {"model/bomb.npz": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed or encrypted"):
        pixal.import_("bomb.pixal")
    data = bytearray((home / "front.pixal").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = (1 << 30).to_bytes(4, "little") * 2  # a size that the file does not have
    Path("liar.pixal").write_bytes(data)
    with pytest.raises(InputError, match=r"more bytes than the file has|damaged"):
        unpack_model_file(Path("liar.pixal"), elsewhere / "unpacked")
    assert not (elsewhere / "unpacked").exists()


def test_another_model_is_only_replaced_by_force_and_is_kept(home: Path, elsewhere: Path) -> None:
    shutil.copytree(home / "out", "out")
    config = pixal.load_config("configs", ["validation.map_smoothing=2"])
    pixal.train(config=config, quiet=True)
    other = (ROOT / "metadata/model_training.yaml").read_bytes()
    with pytest.raises(InputError, match="add --force"):
        pixal.import_(home / "front.pixal")
    assert (ROOT / "metadata/model_training.yaml").read_bytes() == other
    pixal.import_(home / "front.pixal", force=True)
    assert pixal.export(out="a.pixal").read_bytes() == (home / "front.pixal").read_bytes()
    (kept,) = (ROOT / REPLACED_FOLDER).iterdir()
    assert f"back with: pixal import --force {kept}" in pixal.promote(overview=True).summary()
    pixal.import_(kept, force=True)
    assert (ROOT / "metadata/model_training.yaml").read_bytes() == other
    assert len(list((ROOT / REPLACED_FOLDER).iterdir())) == 2


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_killed_import_leaves_no_mixture(
    step: int, home: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, "fsync", step)
        with pytest.raises(Killed):
            pixal.import_(home / "front.pixal")
    with pytest.raises((InputError, ModelError), match="trained"):
        pixal.export("front")
    pixal.import_(home / "front.pixal")
    assert pixal.export("front").read_bytes() == (home / "front.pixal").read_bytes()


def test_what_a_stranger_wrote_is_not_replaced(home: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger = ROOT / "model/calibration.npz"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    assert main(["import", str(home / "front.pixal")]) == 2
    assert "was not written by PIXAL" in capsys.readouterr().err
    assert stranger.read_text() == "mine"
    assert main(["export", "front"]) == 2
    assert "run train first" in capsys.readouterr().err


def test_export_names_the_file_and_keeps_what_is_there(
    home: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixal.import_(home / "front.pixal")
    assert main(["export"]) == 0
    assert "wrote Part_front.pixal" in capsys.readouterr().err
    assert main(["export"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["export", "--force"]) == 0
    assert main(["export", "-o", "photo.jpg", "--force"]) == 2
    assert "ends in .pixal" in capsys.readouterr().err
