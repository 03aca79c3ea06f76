"""Tests of rembg's networks: their files, sessions and masks, with small networks made by the tests."""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import overlap

from pixal.errors import ConfigError, InputError
from pixal.tasks.photographs.foreground import rembg_session
from pixal.tasks.photographs.foreground.methods import available_methods, find_foreground, model_hash
from pixal.tasks.photographs.foreground.rembg_session import SerialSession, load_session, network_file, rembg_alpha
from pixal.tasks.photographs.settings import RemoveBackground

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
slow = pytest.mark.slow  # rembg takes two seconds to import


def rembg(**settings: Any) -> RemoveBackground:
    return RemoveBackground(method="rembg", **settings)


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _field(number: int, value: int | bytes | str) -> bytes:
    """Encode a field of a protocol buffer: an integer, or bytes (a text or a message)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def colour_network(
    weights: tuple[float, ...] = (-1, 2, -1),
    side: int | str = 320,
    spread: tuple[float, ...] = (0.229, 0.224, 0.225),
) -> bytes:
    """Encode an ONNX model like u2net: a 1x1 convolution of (1, 3, side, side) to (1, 1, side, side).

    Args:
        weights: Weights of red, green and blue.
        side: Side of the image; a name stands for any size.
        spread: Standard deviations by which rembg divides the colours.
    """

    def size(value: int | str) -> bytes:
        return _field(1, _field(1, value) if isinstance(value, int) else _field(2, value))

    def port(name: str, channels: int) -> bytes:
        shape = b"".join(size(value) for value in (1, channels, side, side))
        return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))

    kernel = b"".join(_field(1, count) for count in (1, len(weights), 1, 1))
    kernel += (
        _field(2, 1) + _field(8, "kernel") + _field(9, (np.array(weights) * np.array(spread)).astype("<f4").tobytes())
    )
    node = _field(1, "image") + _field(1, "kernel") + _field(2, "mask") + _field(4, "Conv")
    graph = _field(1, node) + _field(2, "colour") + _field(5, kernel)
    graph += _field(11, port("image", len(weights))) + _field(12, port("mask", 1))
    return _field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where rembg looks for networks, without access to the internet."""

    def fail(*_: Any) -> None:
        raise AssertionError("a test uses the internet")

    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", fail)
    return tmp_path


def two_parts() -> tuple[Image, Mask, Mask]:
    """Return a photograph of a large blue and a small green part, and both masks."""
    photo = 150 + 3 * np.random.default_rng(5).standard_normal((270, 480, 3))
    blue, green = np.zeros(photo.shape[:2], bool), np.zeros(photo.shape[:2], bool)
    blue[60:220, 60:260], green[100:180, 320:400] = True, True
    photo[blue], photo[green] = (40, 60, 200), (40, 200, 60)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8), blue, green


@slow
def test_the_foreground_is_the_mask_of_the_network(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    photo, _, green = two_parts()
    settings = rembg()
    assert available_methods(RemoveBackground()) == ["border", "rembg"]
    assert available_methods(settings) == ["rembg"]
    foreground = find_foreground(photo, settings)
    assert overlap(foreground.mask, green) > 0.97
    assert set(np.unique(foreground.alpha)) == {0, 255}
    assert foreground.others == ()
    assert np.array_equal(find_foreground(photo.astype(np.uint16) * 257, settings).alpha, foreground.alpha)


@slow
def test_the_largest_central_part_is_chosen_and_others_are_reported(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network((-1, 0, 1)))  # blue
    photo, blue, _ = two_parts()
    photo[20:60, 400:460] = (40, 60, 200)
    foreground = find_foreground(photo, rembg())
    assert overlap(foreground.mask, blue) > 0.97
    assert np.abs(np.array(foreground.others) - [(400, 20, 60, 40)]).max() <= 2


@slow
def test_an_empty_mask_of_the_network_is_an_error(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network((0, 0, 0)))
    with pytest.raises(InputError, match="no part found"):
        find_foreground(two_parts()[0], rembg())


@slow
def test_alpha_matting_follows_a_soft_edge(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    truth = cv2.GaussianBlur((two_parts()[2][:200:2, 260::2] * 255).astype(np.float64), (0, 0), 3) / 255
    photo = np.rint(150 * (1 - truth[..., None]) + np.array((40, 200, 60)) * truth[..., None]).astype(np.uint8)
    soft = find_foreground(photo, rembg(alpha_matting=True)).alpha
    hard = find_foreground(photo, rembg()).alpha
    assert ((soft > 0) & (soft < 255)).sum() > 500
    assert np.abs(soft / 255 - truth).mean() < 0.5 * np.abs(hard / 255 - truth).mean()


@slow
@pytest.mark.parametrize(
    "model", ["u2netp", "u2net_human_seg", "silueta", "isnet-general-use", "birefnet-general", "bria-rmbg"]
)
def test_a_network_of_rembg_is_chosen_by_its_name(models: Path, model: str) -> None:
    (models / f"{model}.onnx").write_bytes(colour_network(side="any"))
    photo, _, green = two_parts()
    assert available_methods(RemoveBackground(model=model)) == ["border", "rembg"]
    assert find_foreground(photo, rembg(model=model)).mask[green].mean() > 0.97


@slow
@pytest.mark.parametrize("model", ["u2net", "u2net_custom", "dis_custom", "ben_custom"])
@pytest.mark.parametrize("side", [64, 320, "any"])
def test_the_users_network_can_be_in_any_folder(
    models: Path, tmp_path_factory: pytest.TempPathFactory, model: str, side: int | str
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "my network.onnx"
    file.write_bytes(colour_network(side=side))
    (models / f"{model}.onnx").write_bytes(colour_network((0, -1, 1)))  # must not be used
    photo, _, green = two_parts()
    assert available_methods(RemoveBackground(model=model, model_file=str(file))) == ["border", "rembg"]
    settings = rembg(model=model, model_file=str(file))
    assert overlap(find_foreground(photo, settings).mask, green) > (0.85 if side == 64 else 0.97)


@slow
def test_each_network_has_its_session(models: Path) -> None:
    photo, blue, green = two_parts()
    for name, weights, mask in (("a", (-1, 2, -1), green), ("b", (-1, 0, 1), blue), ("a", (-1, 2, -1), green)):
        (models / name).write_bytes(colour_network(weights))
        assert overlap(find_foreground(photo, rembg(model_file=str(models / name))).mask, mask) > 0.97


def test_the_hash_follows_changes_of_the_file(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(b"abc")
    assert model_hash(rembg()) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (models / "u2net.onnx").write_bytes(b"")
    os.utime(models / "u2net.onnx", ns=(1, 1))
    assert model_hash(rembg()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert model_hash(RemoveBackground(method="border")) is None


@slow
def test_one_session_serves_all_threads(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    start = threading.Barrier(6)

    def load(_: int) -> Any:
        start.wait()
        return load_session(rembg())

    with ThreadPoolExecutor(6) as pool:
        sessions = list(pool.map(load, range(6)))
    assert len({id(session) for session in sessions}) == 1
    photos = [np.roll(two_parts()[0], 20 * shift, axis=1) for shift in range(4)]
    one_by_one = [rembg_alpha(photo, rembg()) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        in_threads = list(pool.map(lambda photo: rembg_alpha(photo, rembg()), photos * 3))
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one * 3, in_threads, strict=True))


@slow
def test_a_session_runs_one_photograph_at_a_time() -> None:
    running, largest = 0, 0

    class RecordedSession:
        def run(self, *_: Any) -> None:
            nonlocal running, largest
            running += 1
            largest = max(largest, running)
            threading.Event().wait(0.002)
            running -= 1

    session = SerialSession(RecordedSession())
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: session.run(None, {}), range(24)))
    assert largest == 1


@slow
@pytest.mark.parametrize(("shared", "threads"), [("3", 3), ("", None), ("0", None), ("all", None)])
def test_the_session_uses_the_processors_of_its_process(
    models: Path, monkeypatch: pytest.MonkeyPatch, shared: str, threads: int | None
) -> None:
    """Joblib and Dask set ``OMP_NUM_THREADS`` to divide the processors among their processes."""
    monkeypatch.setenv("OMP_NUM_THREADS", shared)
    monkeypatch.setattr(rembg_session, "processors", lambda: 5)
    (models / "u2net.onnx").write_bytes(colour_network())
    session = load_session(rembg()).inner_session
    options = session.get_session_options()
    assert options.intra_op_num_threads == (threads or 5)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@slow
def test_a_damaged_network_is_an_error(models: Path) -> None:
    file = models / "u2net.onnx"
    for damaged in (colour_network()[:100], b"", b"not a network"):
        file.write_bytes(damaged)
        reason = r"remove_background.*u2net\.onnx is damaged or not a network; copy it again"
        with pytest.raises(ConfigError, match=reason):
            find_foreground(two_parts()[0], rembg())


@slow
def test_a_network_with_other_inputs_is_an_error(models: Path) -> None:
    file = models / "u2net.onnx"
    file.write_bytes(colour_network().replace(b"Conv", b"Kvnc"))
    with pytest.raises(ConfigError, match=r"u2net\.onnx is damaged or not a network"):
        find_foreground(two_parts()[0], rembg())
    file = models / "u2netp.onnx"
    file.write_bytes(colour_network((1,), spread=(1.0,)))  # for grey images
    with pytest.raises(ConfigError, match=r"u2netp\.onnx is not a network from an image \(1, 3, H, W\) to its mask"):
        find_foreground(two_parts()[0], rembg(model="u2netp"))


@slow
def test_an_unknown_model_is_an_error(models: Path) -> None:
    (models / "unknown_model.onnx").write_bytes(colour_network())
    reason = r"remove_background\.model.*no model 'unknown_model', only .*u2net.*model_file"
    with pytest.raises(ConfigError, match=reason):
        find_foreground(two_parts()[0], rembg(model="unknown_model"))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sam", "needs points or boxes"),
        ("u2net_cloth_seg", "finds clothes"),
        ("withoutbg", "sends the photographs to a service"),
        ("atlascloud", "sends the photographs to a service"),
    ],
)
def test_an_unsuitable_model_is_an_error(models: Path, model: str, reason: str) -> None:
    (models / f"{model}.onnx").write_bytes(b"x")
    for settings in (RemoveBackground(model=model), rembg(model=model)):
        with pytest.raises(ConfigError, match=rf"remove_background\.model: rembg's {model} {reason}.*u2net"):
            available_methods(settings)
    assert available_methods(RemoveBackground(method="border", model=model)) == ["border"]


def test_a_missing_model_file_is_never_downloaded(models: Path) -> None:
    assert available_methods(RemoveBackground()) == ["border"]
    with pytest.raises(ConfigError, match=r"needs .*u2net\.onnx, which is not on this machine.*U2NET_HOME.*border"):
        available_methods(rembg())
    with pytest.raises(ConfigError, match=r"needs .*u2net\.onnx, which is not on this machine"):
        find_foreground(two_parts()[0], rembg())
    (models / "u2netp.onnx").write_bytes(b"x")
    assert available_methods(RemoveBackground(model="u2netp")) == ["border", "rembg"]
    assert available_methods(RemoveBackground(method="border", model="u2netp")) == ["border"]
    assert available_methods(RemoveBackground()) == ["border"]


def test_a_model_file_of_the_settings_must_exist(models: Path) -> None:
    missing = str(models / "gone.onnx")
    for method in ("auto", "rembg"):
        settings = RemoveBackground.model_validate({"method": method, "model_file": missing})
        with pytest.raises(ConfigError, match=r"remove_background\.model_file: .*gone\.onnx does not exist"):
            available_methods(settings)
    with pytest.raises(ConfigError, match=r"u2net_custom is your own network; set .*model_file"):
        available_methods(rembg(model="u2net_custom"))


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "home/.u2net/u2net.onnx"),
        ({}, "home/.rembg/models/u2net/u2net.onnx"),
        ({"REMBG_HOME": "own"}, "own/models/u2net/u2net.onnx"),
        ({"XDG_DATA_HOME": "data"}, "data/.u2net/u2net.onnx"),
        ({"XDG_DATA_HOME": "data"}, "data/rembg/models/u2net/u2net.onnx"),
        ({"U2NET_HOME": "shared"}, "shared/u2net.onnx"),
        ({"U2NET_HOME": "shared"}, "shared/models/u2net/u2net.onnx"),
    ],
)
def test_a_model_file_is_found_where_rembg_stores_it(
    variables: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert available_methods(RemoveBackground()) == ["border"]
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert available_methods(RemoveBackground()) == ["border", "rembg"]
    assert network_file(rembg()) == file


@slow
def test_the_default_files_are_those_of_rembg(models: Path) -> None:
    from rembg.sessions import sessions_class

    for session in sessions_class:
        name = session.name()
        if name in rembg_session.UNSUITABLE or name in rembg_session.CUSTOM_MODELS:
            continue
        for file in rembg_session.default_files(name):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
            assert session.download_models() == str(file)
            file.unlink()
