"""Write ``promotion.html``: how a candidate compares with the model in use, in one page without scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from pixal.errors import InputError
from pixal.io.images import as_uint8, read_image
from pixal.io.provenance import provenance
from pixal.report.page import csp_hash, page_environment, read_page_file, write_stream

_MOST_IMAGES = 300  # thumbnails; more would make the page too large to mail
_WIDTH = 320  # pixels of a thumbnail
_KNOWN, _FOUND = (40, 110, 255), (230, 30, 30)  # RGB of the boxes
_GAINS = ("newly found", "no false alarm any more")
_LOSSES = ("newly lost", "new false alarm")
_ORDER = (*_LOSSES, *_GAINS, "missed", "false alarm", "now fails", "now passes", "found", "passes", "not compared")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PageRow:
    """A part on the page.

    Attributes:
        values: The columns of ``promotion.csv``.
        source: Its photograph.
        known: Boxes around known defects, pixels of the photograph: x, y, width, height.
        found: Boxes around the regions that the candidate found.
    """

    values: Mapping[str, Any]
    source: Path
    known: Sequence[Box]
    found: Sequence[Box]


@dataclass(frozen=True)
class _ShownRow:
    values: Mapping[str, Any]
    image: str
    kind: str


def write_promotion_page(path: Path, content: Mapping[str, Any], rows: Sequence[PageRow]) -> None:
    """Write the page atomically.

    Args:
        path: The page.
        content: The content of ``promotion.yaml``.
        rows: The parts to show: those that were marked, and those with another verdict.
    """
    css = read_page_file("report.css") + read_page_file("history.css") + read_page_file("promotion.css")
    made = provenance()
    ordered = sorted(rows, key=lambda row: _ORDER.index(row.values["change"]))
    shown = [
        _ShownRow(
            row.values,
            _thumbnail(row) if number < _MOST_IMAGES else "",
            "gain" if row.values["change"] in _GAINS else "loss" if row.values["change"] in _LOSSES else "",
        )
        for number, row in enumerate(ordered)
    ]
    stream = (
        page_environment()
        .get_template("promotion.html.j2")
        .stream(
            css=Markup(css),
            css_hash=csp_hash(css),
            version=made["pixal_version"],
            created=made["created"],
            content=content,
            marked=[row for row in shown if row.values["mark"]],
            others=[row for row in shown if not row.values["mark"]],
        )
    )
    write_stream(path, stream)


def _thumbnail(row: PageRow) -> str:
    """A small photograph with the boxes, as a ``data:`` address; "" if it cannot be read."""
    with suppress(InputError):
        image = np.ascontiguousarray(as_uint8(read_image(row.source)[..., :3]))
        scale = min(1.0, _WIDTH / image.shape[1])
        small = np.ascontiguousarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        for boxes, colour in ((row.found, _FOUND), (row.known, _KNOWN)):
            for x, y, width, height in boxes:
                first = (round(x * scale) - 1, round(y * scale) - 1)
                second = (round((x + width) * scale) + 1, round((y + height) * scale) + 1)
                cv2.rectangle(small, first, second, colour, 2)
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
        return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
    return ""
