"""Tests of the demo without its commands: what it does before them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pixal.commands.demo import COMPONENT, demo
from pixal.config.loading import DEFAULTS


class Rendered(Exception):  # noqa: N818
    """The photographs are there, and preprocessing would begin."""


@pytest.fixture(autouse=True)
def _only_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: Any, **__: Any) -> None:
        raise Rendered

    monkeypatch.setattr("pixal.commands.demo.preprocess", begin)


def render(folder: Path) -> None:
    with pytest.raises(Rendered):
        demo(folder, config=DEFAULTS, quiet=True, train_images=1, parts=1, frame_size=(160, 90))


def test_a_demo_that_was_killed_while_it_wrote_a_photograph_goes_on(tmp_path: Path) -> None:
    render(tmp_path)
    photographs = tmp_path / "photographs/train" / COMPONENT / "front"
    half = photographs / ".0123456789ab.image_000.jpg"  # as ``atomic_write`` names it
    half.write_bytes(b"half a photogr")
    render(tmp_path)
    assert [path.name for path in photographs.iterdir()] == ["image_000.jpg"]
