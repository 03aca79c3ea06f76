"""Write ``report.html``: the verdicts of a batch, their reasons and images, in one page that needs no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from pixal.errors import InputError
from pixal.report.document import PartResult, ResultsDocument
from pixal.report.images import (
    MAX_WIDTH,
    Image,
    PartImages,
    data_uri,
    embedded_size,
    export_images,
    remove_old_images,
    save_part_images,
)
from pixal.report.measures import measure_cards, measure_tables
from pixal.report.page import csp_hash, page_environment, read_page_file, write_stream
from pixal.report.part_verdicts import part_headline

ImageSource = Callable[[PartResult], "tuple[Image, Image] | PartImages | None"]
"""Gives a part's photograph and overlay, each (H, W, 3) uint8 RGB; or its image files; or None."""

EMBED_LIMIT_MB = 10.0  # a page of this size can still be mailed, and opens at once
THUMBNAIL_LIMIT_MB = 2.0  # more thumbnails inside the page slow down its opening
_PART_FIELDS = {  # what the page's script reads
    *(
        "type",
        "image",
        "source",
        "score",
        "p_value",
        "p_value_extrapolated",
        "threshold",
        "verdict",
        "reason",
        "regions",
        "truth",
    ),
    *("width", "height"),
}


@dataclass(frozen=True)
class _TableRow:
    """A row of the page's table.

    Attributes:
        part: The part's result.
        index: Its position in the document.
        ratio: Score over threshold; None if there is none.
        bar: Length of the bar that shows the ratio, in [0, 60].
        largest: Area of the largest region in square pixels; None without regions.
        thumbnail: Address of the small overlay, or "".
        close_up: Address of the close-up, or "".
    """

    part: PartResult
    index: int
    ratio: float | None
    bar: float
    largest: float | None
    thumbnail: str
    close_up: str


def write_report(
    path: Path,
    results: ResultsDocument,
    images_of: ImageSource,
    *,
    max_width: int = MAX_WIDTH,
    embed_limit_mb: float = EMBED_LIMIT_MB,
) -> None:
    """Write the report of one batch atomically.

    Images are made for one part at a time and kept on disk, so that memory does not grow with the number of parts.
    If they are too large for the page they go to the folder ``STEM_images/`` next to it. Their names follow from their
    content: a page that is open while a new one is written never shows the image of another part.

    Args:
        path: The page, usually ``report.html``; its folder is created if needed.
        results: The results document.
        images_of: Called once per part, in order. Files that it returns are left where they are.
        max_width: Wider images are reduced to this many pixels; at least 16.
        embed_limit_mb: Largest total size of images inside the page in megabytes; 0 puts all of them into the folder.
            Beyond it, thumbnails stay inside the page up to 2 MB.

    Raises:
        InputError: A limit is out of range, or an image is not (H, W, 3) uint8.
    """
    if max_width < 16 or embed_limit_mb < 0:
        raise InputError(f"{path}: max_width must be at least 16, and embed_limit_mb at least 0")
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as made:

        @cache
        def folder_for_arrays() -> Path:  # on the same disk, so that files can be linked
            return Path(made.enter_context(TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent)))

        images = [_image_files(folder_for_arrays, part, images_of(part), max_width) for part in results.parts]
        small = embedded_size(file for part in images for file in (part.thumbnail, part.close_up))
        large = embedded_size(file for part in images for file in (part.photo, part.overlay))
        limit = embed_limit_mb * 1e6
        folder = path.parent / f"{path.stem}_images"
        in_page = small <= min(limit, THUMBNAIL_LIMIT_MB * 1e6)
        exported = export_images(images, folder, thumbnails=not in_page) if small + large > limit else set()
        _write_page(path, results, images, exported)
    remove_old_images(folder, keep=exported)


def _image_files(
    folder: Callable[[], Path],
    part: PartResult,
    images: tuple[Image, Image] | PartImages | None,
    max_width: int,
) -> PartImages:
    if images is None:
        return PartImages()
    if isinstance(images, PartImages):
        return images
    photo, overlay = images
    size = (part.height, part.width) if part.height and part.width else None
    return save_part_images(
        folder(), photo, overlay, name=part.image, size=size, regions=part.regions, max_width=max_width
    )


def _write_page(path: Path, results: ResultsDocument, images: Sequence[PartImages], exported: set[str]) -> None:
    """Render into a temporary file, then move it to ``path``."""
    environment = page_environment()
    css, script = read_page_file("report.css"), _script()
    folder = f"{path.stem}_images"

    def address(file: Path | None) -> str:
        if file is None:
            return ""
        return f"{quote(folder)}/{file.name}" if file.name in exported else data_uri(file)

    stream = environment.get_template("report.html.j2").stream(
        css=Markup(css),
        script=Markup(script),
        css_hash=csp_hash(css),
        script_hash=csp_hash(script),
        results=results,
        model=results.model.model_dump(by_alias=True),
        counts={
            verdict: sum(part.verdict == verdict for part in results.parts) for verdict in ("pass", "fail", "error")
        },
        rates=sorted({summary.false_alarm_rate for summary in results.types.values()}),
        part_headline=part_headline(results.part_verdicts),
        measures=measure_cards(results.metrics),
        measure_tables=measure_tables(results.metrics),
        with_truth=any(part.truth is not None for part in results.parts),
        folder=folder if exported else "",
        data=_script_data(results, images),
        rows=(
            _table_row(index, part, address(files.thumbnail), address(files.close_up))
            for index, (part, files) in enumerate(zip(results.parts, images, strict=True))
        ),
        images=((index, address(files.photo), address(files.overlay)) for index, files in enumerate(images)),
    )
    write_stream(path, stream)


def _script_data(results: ResultsDocument, images: Sequence[PartImages]) -> dict[str, Any]:
    """The JSON that the page's script reads: parts without images, and the scores of each type."""
    parts = []
    for part, files in zip(results.parts, images, strict=True):
        overlay = part.overlay
        parts.append(
            {
                **part.model_dump(mode="json", include=_PART_FIELDS),
                "has_images": files.photo is not None,
                # With a quoted colon there is no scheme such as "javascript:". A leading slash would leave the folder.
                "overlay": quote(overlay.replace("\\", "/").lstrip("/"), safe="/") if overlay else None,
            }
        )
    types = {
        name: {
            "threshold": summary.threshold,
            "training": [float(f"{score:.6g}") for score in summary.training_scores],
        }
        for name, summary in results.types.items()
    }
    return {"component": results.component, "created": results.created, "types": types, "parts": parts}


def _table_row(index: int, part: PartResult, thumbnail: str, close_up: str) -> _TableRow:
    ratio = None
    if part.score is not None and part.threshold is not None and part.threshold > 0:
        ratio = part.score / part.threshold
    # The bar is logarithmic: the threshold is in its middle, a factor of 8 at either end.
    share = 0.0 if ratio is None or ratio <= 0 else min(max(0.5 + math.log(ratio) / math.log(64), 0.02), 1.0)
    return _TableRow(
        part=part,
        index=index,
        ratio=ratio,
        bar=round(60 * share, 1),
        largest=max((region.area_px for region in part.regions), default=None),
        thumbnail=thumbnail,
        close_up=close_up,
    )


def _script() -> str:
    """All scripts joined, in a scope of their own."""
    names = ("elements.js", "report.js", "distribution.js", "stage.js", "viewer.js", "controls.js")
    joined = "\n".join(map(read_page_file, names))
    return f'"use strict";\n(() => {{\n{joined}}})();\n'
