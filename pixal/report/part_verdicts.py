"""Join the views of a part: photographs of several image types with the same name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

from pixal.report.document import PartResult, PartVerdict


def part_name(image: str, pattern: str | None = None) -> str:
    """The name that the photographs of a part have in common.

    Args:
        image: The file name of a photograph.
        pattern: A regular expression; the name is what its first group matches, or the whole match if it has no group.
            None, or no match: the file name without its extension.
    """
    stem = str(PurePath(image).with_suffix(""))
    found = None if pattern is None else re.search(pattern, stem)
    if found is None:
        return stem
    return str(found[1] if found.re.groups and found[1] is not None else found[0])


def join_views(results: Sequence[PartResult], pattern: str | None = None) -> tuple[PartVerdict, ...]:
    """The verdict on each part, in the order in which the parts first occur.

    Args:
        results: The verdicts on the photographs of a batch.
        pattern: See ``part_name``.

    Returns:
        One verdict per part; empty if there is no pattern and no name occurs in two types: each photograph is a part.
    """
    types = list(dict.fromkeys(result.type for result in results))
    by_part: dict[str, list[PartResult]] = {}
    for result in results:
        by_part.setdefault(part_name(result.image, pattern), []).append(result)
    if pattern is None and all(len(views) == 1 for views in by_part.values()):
        return ()
    return tuple(_verdict(name, views, types) for name, views in by_part.items())


def part_headline(parts: Sequence[PartVerdict]) -> str:
    """Number of parts by verdict, and of parts with a missing view."""
    counts = {verdict: sum(part.verdict == verdict for part in parts) for verdict in ("pass", "fail", "error")}
    missing = sum(bool(part.missing) for part in parts)
    text = f"{len(parts)} parts, joined from their views: {counts['pass']} pass, {counts['fail']} fail"
    text += f", {counts['error']} could not be processed" if counts["error"] else ""
    return text + (f"; with a missing view: {missing}" if missing else "")


def _verdict(name: str, views: Sequence[PartResult], types: Sequence[str]) -> PartVerdict:
    verdicts = {view.verdict for view in views}
    verdict: Literal["pass", "fail", "error"] = (
        "fail" if "fail" in verdicts else "error" if "error" in verdicts else "pass"
    )
    p_values = [view.p_value for view in views if view.p_value is not None]
    by_type = {name: tuple(view.image for view in views if view.type == name) for name in types}
    return PartVerdict(
        part=name,
        verdict=verdict,
        p_value=min(1.0, min(p_values) * len(views)) if p_values else None,
        views={name: images for name, images in by_type.items() if images},
        failed=tuple(dict.fromkeys(view.type for view in views if view.verdict == "fail")),
        missing=tuple(name for name, images in by_type.items() if not images),
    )
