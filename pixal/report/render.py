"""Writes report.html: a batch's verdicts, their reasons and their pictures in one page without network."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pixal.errors import InputError
from pixal.report.measures import measure_cards, measure_tables
from pixal.report.pictures import MAX_WIDTH, Image, Part, Pictures, data_uri, embedded_size, move_out, prune, store

PictureOf = Callable[[Part], "tuple[Image, Image] | Pictures | None"]

SCHEMA_VERSION = 1
_LEAST_P = 1e-6  # smaller ones say no more
PART_KEYS = (  # of a part, what the page's script uses
    *("type", "image", "source", "score", "p_value", "threshold", "verdict", "reason", "regions", "truth"),
    *("width", "height"),
)


def write_report(
    path: Path,
    results: Mapping[str, Any],
    picture: PictureOf,
    *,
    max_width: int = MAX_WIDTH,
    embed_limit_mb: float = 20.0,
) -> None:
    """Write the report of one batch to ``path``, atomically.

    Pictures are made one part at a time and wait on disk, so memory does not grow with the number of parts.
    Where they would make the page larger than the limit, they go to ``STEM_images/`` beside it, named after
    their content: a page that is open while a new one is written never shows another part's picture.

    :param path: the page, usually ``report.html``; its folder is made if need be.
    :param results: the results document, schema version 1 (what ``results.json`` holds).
    :param picture: gives a part's photograph and overlay, each (H, W, 3) uint8 RGB in the photograph's frame,
        or None; called once a part, in order. Or the files that ``store`` has made of them before, which stay.
    :param max_width: pictures wider than this many pixels are reduced to it; at least 16.
    :param embed_limit_mb: most megabytes of pictures inside the page; 0 puts all pictures into the folder.
    :raises InputError: another schema version, or a picture that is not (H, W, 3) uint8.
    """
    if results.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: results have schema version {results.get('schema_version')!r}, the report reads "
            f"{SCHEMA_VERSION}: write them again with this version of PIXAL"
        )
    if max_width < 16 or embed_limit_mb < 0:
        raise InputError(f"{path}: max_width must be 16 or more, and embed_limit_mb 0 or more")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as spool:
        shelf = [_shelved(Path(spool), part, picture(part), max_width) for part in results["parts"]]
        small = embedded_size(file for kept in shelf for file in (kept.thumbnail, kept.close_up))
        large = embedded_size(file for kept in shelf for file in (kept.photo, kept.overlay))
        limit = embed_limit_mb * 1e6
        folder = path.parent / f"{path.stem}_images"
        outside = move_out(shelf, folder, thumbnails=small > limit) if small + large > limit else set()
        _write_page(path, results, shelf, outside)
    prune(folder, keep=outside)


def _shelved(spool: Path, part: Part, made: tuple[Image, Image] | Pictures | None, max_width: int) -> Pictures:
    return made if isinstance(made, Pictures) else store(spool, part, made, max_width)


def _write_page(path: Path, results: Mapping[str, Any], shelf: Sequence[Pictures], outside: set[str]) -> None:
    """Render into a file beside ``path``, then put it in its place."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters.update(figure=_figure, chance=_chance, day=_day)
    css, script = _read("report.css"), _script()
    document = _plain(results)
    kinds = document["types"].values()
    folder = f"{path.stem}_images"

    def source(file: Path | None) -> str:
        if file is None:
            return ""
        return f"{quote(folder)}/{file.name}" if file.name in outside else data_uri(file)

    stream = environment.get_template("report.html.j2").stream(
        css=Markup(css),
        script=Markup(script),
        css_hash=_csp_hash(css),
        script_hash=_csp_hash(script),
        results=document,
        counts={
            verdict: sum(part["verdict"] == verdict for part in document["parts"])
            for verdict in ("pass", "fail", "error")
        },
        rates=sorted({rate for kind in kinds if (rate := kind.get("false_alarm_rate")) is not None}),
        measures=measure_cards(document.get("metrics")),
        measure_tables=measure_tables(document.get("metrics")),
        with_truth=any(part.get("truth") for part in document["parts"]),
        folder=folder if outside else "",
        data=_page_data(document, shelf),
        rows=(
            _row(index, part, source(kept.thumbnail), source(kept.close_up))
            for index, (part, kept) in enumerate(zip(document["parts"], shelf, strict=True))
        ),
        pictures=((index, source(kept.photo), source(kept.overlay)) for index, kept in enumerate(shelf)),
    )
    stream.enable_buffering(20)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as page:
            page.writelines(stream)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _page_data(document: dict[str, Any], shelf: Sequence[Pictures]) -> dict[str, Any]:
    """What the page's script reads: the parts without pictures, and each type's scores."""
    parts = []
    for part, kept in zip(document["parts"], shelf, strict=True):
        overlay = part.get("overlay")
        parts.append(
            {
                **{key: part.get(key) for key in PART_KEYS},
                "pictured": kept.photo is not None,
                # Quoted, a colon makes no scheme such as javascript:; a rooted path would leave the folder.
                "overlay": quote(overlay.replace("\\", "/").lstrip("/"), safe="/") if overlay else None,
            }
        )
    types = {
        name: {
            "threshold": kind.get("threshold"),
            "training": [float(f"{score:.6g}") for score in kind.get("training_scores") or [] if score is not None],
        }
        for name, kind in document["types"].items()
    }
    return {
        "component": document["component"],
        "created": document["created"],
        "types": types,
        "parts": parts,
    }


def _row(index: int, part: dict[str, Any], thumbnail: str, close_up: str) -> dict[str, Any]:
    score, threshold, regions = part.get("score"), part.get("threshold"), part.get("regions") or []
    ratio = score / threshold if score is not None and threshold is not None and threshold > 0 else None
    # The bar is logarithmic: the threshold in its middle, a factor of eight to either end.
    bar = 0.0 if ratio is None or ratio <= 0 else min(max(0.5 + math.log(ratio) / math.log(64), 0.02), 1.0)
    largest = max((region["area_px"] for region in regions), default=None)
    return {
        **part,
        "index": index,
        "ratio": ratio,
        "bar": round(60 * bar, 1),
        "count": len(regions),
        "largest": largest,
        "thumbnail": thumbnail,
        "close_up": close_up,
    }


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _chance(p_value: float) -> str:
    return f"= {p_value:.1g}" if p_value >= _LEAST_P else f"< {_LEAST_P:g}"


def _day(text: str) -> str:
    """An ISO time for people; anything else as it is."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return text


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _script() -> str:
    """The scripts as one, in a scope of its own."""
    joined = "\n".join(_read(name) for name in ("report.js", "distribution.js", "viewer.js", "controls.js"))
    return f'"use strict";\n(() => {{\n{joined}}})();\n'


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _plain(value: Any) -> Any:
    """The same with nothing but JSON's own types; what is not finite becomes None, as JSON cannot say it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
