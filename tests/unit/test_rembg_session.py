"""rembg's networks: which file, one session for all threads, and what it cuts; by small networks of the tests' own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.tasks.photographs.foreground import rembg_session
from pixal.tasks.photographs.foreground.methods import choose_method, find_foreground, model_hash
from pixal.tasks.photographs.foreground.rembg_session import rembg_alpha
from pixal.tasks.photographs.settings import RemoveBackground

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
slow = pytest.mark.slow  # rembg takes two seconds to import


def rembg(**settings: Any) -> RemoveBackground:
    return RemoveBackground(method="rembg", **settings)


def overlap(found: Mask, truth: Mask) -> float:
    return float((found & truth).sum() / (found | truth).sum())


# --- a network in ONNX's format, written by hand: a protocol buffer


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _field(number: int, value: int | bytes | str) -> bytes:
    """A field of a protocol buffer: an integer, or bytes (text, or a message)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def colour_network(
    weights: tuple[float, ...] = (-1, 2, -1),
    side: int | str = 320,
    spread: tuple[float, ...] = (0.229, 0.224, 0.225),
) -> bytes:
    """An ONNX model in u2net's form, (1, 3, side, side) to (1, 1, side, side): a 1x1 convolution; 2 G - R - B for one.

    ``side``: a name makes it one of any size. ``spread``: what rembg divides the colours by.
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
    node = _field(1, "picture") + _field(1, "kernel") + _field(2, "mask") + _field(4, "Conv")
    graph = _field(1, node) + _field(2, "colour") + _field(5, kernel)
    graph += _field(11, port("picture", len(weights))) + _field(12, port("mask", 1))
    return _field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder where rembg looks for networks, on a machine that reaches no other."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a test would have used the network")

    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    rembg_session._new_session.cache_clear()
    yield tmp_path
    rembg_session._new_session.cache_clear()


def two_parts() -> tuple[Image, Mask, Mask]:
    """A picture of a large blue and a small green part, and both masks."""
    photo = 150 + 3 * np.random.default_rng(5).standard_normal((270, 480, 3))
    blue, green = np.zeros(photo.shape[:2], bool), np.zeros(photo.shape[:2], bool)
    blue[60:220, 60:260], green[100:180, 320:400] = True, True
    photo[blue], photo[green] = (40, 60, 200), (40, 200, 60)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8), blue, green


# --- what it cuts


@slow
def test_rembg_cuts_what_its_network_finds(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    photo, _, green = two_parts()
    settings = choose_method(RemoveBackground())
    assert settings == choose_method(rembg()) == rembg()
    foreground = find_foreground(photo, settings)
    assert overlap(foreground.mask, green) > 0.97
    assert set(np.unique(foreground.alpha)) == {0, 255}
    assert foreground.others == ()
    assert np.array_equal(find_foreground(photo.astype(np.uint16) * 257, settings).alpha, foreground.alpha)


@slow
def test_the_largest_central_part_is_cut_and_the_others_are_named(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network((-1, 0, 1)))  # blue
    photo, blue, _ = two_parts()
    photo[20:60, 400:460] = (40, 60, 200)
    foreground = find_foreground(photo, rembg())
    assert overlap(foreground.mask, blue) > 0.97
    assert np.abs(np.array(foreground.others) - [(400, 20, 60, 40)]).max() <= 2


@slow
def test_where_the_network_finds_nothing_there_is_no_part(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network((0, 0, 0)))
    with pytest.raises(InputError, match="no part found"):
        find_foreground(two_parts()[0], rembg())


@slow
def test_alpha_matting_follows_a_soft_edge(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    truth = cv2.GaussianBlur((two_parts()[2][:200, 260:] * 255).astype(np.float64), (0, 0), 3) / 255
    photo = np.rint(150 * (1 - truth[..., None]) + np.array((40, 200, 60)) * truth[..., None]).astype(np.uint8)
    soft = find_foreground(photo, rembg(alpha_matting=True)).alpha
    hard = find_foreground(photo, rembg()).alpha
    assert ((soft > 0) & (soft < 255)).sum() > 500
    assert np.abs(soft / 255 - truth).mean() < 0.5 * np.abs(hard / 255 - truth).mean()


# --- which network


@slow
@pytest.mark.parametrize(
    "model", ["u2netp", "u2net_human_seg", "silueta", "isnet-general-use", "birefnet-general", "bria-rmbg"]
)
def test_any_of_rembgs_networks_is_taken_by_its_name(models: Path, model: str) -> None:
    (models / f"{model}.onnx").write_bytes(colour_network(side="any"))
    photo, _, green = two_parts()
    assert choose_method(RemoveBackground(model=model)).method == "rembg"
    assert find_foreground(photo, rembg(model=model)).mask[green].mean() > 0.97


@slow
@pytest.mark.parametrize("model", ["u2net", "u2net_custom", "dis_custom", "ben_custom"])
@pytest.mark.parametrize("side", [64, 320, "any"])
def test_a_network_of_ones_own_is_taken_from_anywhere(
    models: Path, tmp_path_factory: pytest.TempPathFactory, model: str, side: int | str
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "my network.onnx"
    file.write_bytes(colour_network(side=side))
    (models / f"{model}.onnx").write_bytes(colour_network((0, -1, 1)))  # not the one that was named
    photo, _, green = two_parts()
    settings = choose_method(RemoveBackground(model=model, model_file=str(file)))
    assert settings.method == "rembg"
    assert overlap(find_foreground(photo, settings).mask, green) > (0.85 if side == 64 else 0.97)


@slow
def test_another_network_is_another_session(models: Path) -> None:
    photo, blue, green = two_parts()
    for name, weights, mask in (("a", (-1, 2, -1), green), ("b", (-1, 0, 1), blue), ("a", (-1, 2, -1), green)):
        (models / name).write_bytes(colour_network(weights))
        assert overlap(find_foreground(photo, rembg(model_file=str(models / name))).mask, mask) > 0.97


def test_the_hash_is_that_of_the_file_as_it_is_now(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(b"abc")
    assert model_hash(rembg()) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (models / "u2net.onnx").write_bytes(b"")
    os.utime(models / "u2net.onnx", ns=(1, 1))
    assert model_hash(rembg()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert model_hash(RemoveBackground(method="border")) is None


# --- one session


@slow
def test_one_session_serves_all_threads(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    start = threading.Barrier(6)

    def session(_: int) -> Any:
        start.wait()
        return rembg_session._session("u2net", models / "u2net.onnx")

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(session, range(6)))
    assert len({id(one) for one in made}) == 1
    photos = [np.roll(two_parts()[0], 20 * shift, axis=1) for shift in range(4)]
    alone = [rembg_alpha(photo, rembg()) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photo: rembg_alpha(photo, rembg()), photos * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))


@slow
def test_runs_take_turns(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(colour_network())
    session = rembg_session._new_session("u2net", models / "u2net.onnx").inner_session
    inside, most = 0, 0

    class Watched:
        def run(self, *_: Any) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.002)
            inside -= 1

    session._session = Watched()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: session.run(None, {}), range(24)))
    assert most == 1


@slow
@pytest.mark.parametrize(("shared", "threads"), [("3", 3), ("", None), ("0", None), ("all", None)])
def test_the_session_uses_the_processors_that_are_its_own(
    models: Path, monkeypatch: pytest.MonkeyPatch, shared: str, threads: int | None
) -> None:
    """Joblib and Dask divide the machine among their processes by OMP_NUM_THREADS."""
    monkeypatch.setenv("OMP_NUM_THREADS", shared)
    monkeypatch.setattr(rembg_session, "processors", lambda: 5)
    (models / "u2net.onnx").write_bytes(colour_network())
    if shared == "all":
        assert rembg_session._threads() == 5
        return
    session = rembg_session._new_session("u2net", models / "u2net.onnx").inner_session
    options = session.get_session_options()
    assert options.intra_op_num_threads == (threads or 5)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


# --- what cannot be used


@slow
def test_a_network_that_is_damaged_is_refused(models: Path) -> None:
    file = models / "u2net.onnx"
    for damaged in (colour_network()[:100], b"", b"not a network"):
        file.write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"remove_background.*u2net\.onnx is damaged or no network; copy it anew"):
            find_foreground(two_parts()[0], rembg())


@slow
def test_a_network_of_another_form_is_refused(models: Path) -> None:
    file = models / "u2net.onnx"
    file.write_bytes(colour_network().replace(b"Conv", b"Kvnc"))
    with pytest.raises(ConfigError, match=r"u2net\.onnx is damaged or no network"):
        find_foreground(two_parts()[0], rembg())
    rembg_session._new_session.cache_clear()
    file.write_bytes(colour_network((1,), spread=(1.0,)))  # of grey pictures
    with pytest.raises(ConfigError, match=r"u2net\.onnx is no network from a picture \(1, 3, H, W\) to its mask"):
        find_foreground(two_parts()[0], rembg())


@slow
def test_a_model_that_rembg_does_not_know_is_refused(models: Path) -> None:
    (models / "of_my_own.onnx").write_bytes(colour_network())
    with pytest.raises(ConfigError, match=r"remove_background\.model.*no model 'of_my_own', only .*u2net.*model_file"):
        find_foreground(two_parts()[0], rembg(model="of_my_own"))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("sam", "needs points or boxes"),
        ("u2net_cloth_seg", "finds clothes"),
        ("withoutbg", "sends the photographs to a service"),
        ("atlascloud", "sends the photographs to a service"),
    ],
)
def test_a_model_that_cannot_find_a_part_here_is_refused(models: Path, model: str, reason: str) -> None:
    (models / f"{model}.onnx").write_bytes(b"x")
    for settings in (RemoveBackground(model=model), rembg(model=model)):
        with pytest.raises(ConfigError, match=rf"remove_background\.model: rembg's {model} {reason}.*u2net"):
            choose_method(settings)
    assert choose_method(RemoveBackground(method="border", model=model)).method == "border"


def test_a_model_file_that_is_not_here_is_never_downloaded(models: Path) -> None:
    assert choose_method(RemoveBackground()).method == "border"
    with pytest.raises(ConfigError, match=r"needs .*u2net\.onnx, which is not on this machine.*U2NET_HOME.*border"):
        choose_method(rembg())
    with pytest.raises(ConfigError, match=r"needs .*u2net\.onnx, which is not on this machine"):
        find_foreground(two_parts()[0], rembg())
    (models / "u2netp.onnx").write_bytes(b"x")
    assert choose_method(RemoveBackground(model="u2netp")).method == "rembg"
    assert choose_method(RemoveBackground(method="border", model="u2netp")).method == "border"
    assert choose_method(RemoveBackground()).method == "border"


def test_a_model_file_that_is_named_has_to_be_there(models: Path) -> None:
    missing = str(models / "gone.onnx")
    for method in ("auto", "rembg"):
        settings = RemoveBackground.model_validate({"method": method, "model_file": missing})
        with pytest.raises(ConfigError, match=r"remove_background\.model_file: there is no file .*gone\.onnx"):
            choose_method(settings)
    with pytest.raises(ConfigError, match=r"u2net_custom is a network of your own; name its file in .*model_file"):
        choose_method(rembg(model="u2net_custom"))


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
def test_a_model_file_is_found_where_rembg_puts_it(
    variables: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert choose_method(RemoveBackground()).method == "border"
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert choose_method(RemoveBackground()).method == "rembg"
    assert rembg_session.network_file(rembg()) == file


@slow
def test_the_usual_places_are_rembgs_own(models: Path) -> None:
    from rembg.sessions import sessions_class

    for session in sessions_class:
        name = session.name()
        if name in rembg_session._UNFIT or name in rembg_session._OWN_FILE:
            continue
        for place in rembg_session._usual_places(name):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x")
            assert session.download_models() == str(place)
            place.unlink()
