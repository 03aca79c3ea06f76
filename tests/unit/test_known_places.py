"""Known defects in the frame of a model's input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixal.config import load_config
from pixal.io.files import data_hash
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts
from pixal.tasks.photographs.learning.known_places import missed_defects, places_of

IMAGE = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
STATE: Any = SimpleNamespace(reference=SimpleNamespace(image=IMAGE), box=Box(10, 6, 40, 30), pooling=2)
MASK = np.ones((15, 20), bool)


@pytest.fixture
def accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AcceptedParts:
    """Accepted parts of a type in an empty component; three known defects with the same box."""
    monkeypatch.chdir(tmp_path)
    return AcceptedParts.read(load_config().paths, "front").write([known(n) for n in range(3)], run=1, created="")


def known(number: int, image: np.ndarray[Any, Any] = IMAGE, mark: str = "missed") -> AcceptedPart:
    return AcceptedPart(
        kind="known_defects",
        file=f"{number}.png",
        sha256=f"{number}",
        image=f"{number}.png",
        source="",
        batch="lot",
        mark=mark,
        verdict="pass",
        boxes=((20, 16, 4, 4),),
        reference_boxes=((20, 16, 4, 4),),
        reference_sha256=data_hash(image.tobytes()),
        accepted_by="",
        accepted_at="",
        run=1,
    )


def test_boxes_are_moved_to_the_input_and_enlarged(accepted: AcceptedParts) -> None:
    places = places_of(missed_defects(load_config().paths, "front", STATE), MASK)
    # (20 - 10) / 2 = 5 to (24 - 10) / 2 = 7, and (16 - 6) / 2 = 5 to 7; 2 pixels more on each side
    expected = np.zeros_like(places)
    expected[3:9, 3:9] = 1
    assert np.array_equal(places, expected)


def test_a_part_can_be_left_out(accepted: AcceptedParts) -> None:
    assert not places_of(missed_defects(load_config().paths, "front", STATE), MASK, without=["1"]).any()


def test_boxes_in_another_reference_frame_do_not_count(
    accepted: AcceptedParts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    accepted.write([known(0), known(1), known(2, IMAGE[::-1])], run=2, created="")
    assert not places_of(missed_defects(load_config().paths, "front", STATE), MASK).any()
    assert "1 known defects are boxes in another reference frame" in caplog.text


def test_regions_that_were_found_do_not_count(accepted: AcceptedParts) -> None:
    accepted.write([known(0), known(1), known(2, mark="confirmed")], run=2, created="")
    assert not places_of(missed_defects(load_config().paths, "front", STATE), MASK).any()
