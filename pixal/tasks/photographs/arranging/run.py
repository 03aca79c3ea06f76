"""The command ``arrange``: from tables and folders to an input folder, or to the truth of a batch."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError, nearest_hint
from pixal.io.files import data_hash, file_hash, read_bytes, write_bytes
from pixal.io.images import as_uint8, encode_image, read_image
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.tasks.photographs.arranging.matching import Matches, match_files
from pixal.tasks.photographs.arranging.tables import Columns, Row, read_rows

RECORD = "arranged.yaml"
_UNKNOWN_KIND = "defective"
_CANNY = (100, 200)  # thresholds of the gradient
_MOST_NAMED = 5


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None].repeat(3, -1)


def _equalize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luminance = np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    luminance[..., 0] = cv2.equalizeHist(np.ascontiguousarray(luminance[..., 0]))
    return np.asarray(cv2.cvtColor(luminance, cv2.COLOR_YCrCb2RGB), np.uint8)


def _canny(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.Canny(_grey(image)[..., 0].copy(), *_CANNY), np.uint8)[..., None].repeat(3, -1)


STEPS = {"grey": _grey, "equalize": _equalize, "canny": _canny}
"""The conversions of photographs, by name."""


@dataclass
class Arrangement:
    """The result of ``arrange``.

    Attributes:
        folder: The folder that was made.
        counts: Number of photographs by folder in it; for a truth, of parts by type and kind.
        unchanged: Number of photographs that were there already.
        failures: Rows without a file, and photographs that could not be used, each with the reason.
        unused: Files that no table names.
    """

    folder: Path
    counts: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    failures: list[str] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """See ``Results``; there are no verdicts."""
        return 0

    @property
    def all_failed(self) -> bool:
        """Whether nothing was arranged."""
        return not self.counts

    def summary(self) -> str:
        """The counts, and what was not used."""
        lines = [f"{name}: {count}" for name, count in sorted(self.counts.items())]
        if self.unchanged:
            lines.append(f"there already: {self.unchanged}")
        if self.unused:
            more = f" and {len(self.unused) - _MOST_NAMED} more" if len(self.unused) > _MOST_NAMED else ""
            names = ", ".join(path.name for path in self.unused[:_MOST_NAMED])
            lines.append(f"in no table, left out: {len(self.unused)} ({names}{more})")
        return "\n".join([*lines, f"folder: {self.folder}"])


def arrange(
    tables: Sequence[Path],
    folders: Sequence[Path],
    out: Path,
    columns: Columns,
    *,
    truth: bool = False,
    link: bool = False,
    steps: Sequence[str] = (),
    test_ratio: float = 0.0,
) -> Arrangement:
    """See ``pixal.arrange``."""
    _check(folders, out, link=link, steps=steps, test_ratio=test_ratio)
    matches = match_files(read_rows(tables, columns), folders)
    result = Arrangement(out, failures=list(matches.problems), unused=matches.unused)
    if not matches.found:
        raise InputError(f"no row of the tables matches a photograph; the first: {result.failures[0]}")
    if truth:
        _write_truth(matches, out, result)
    else:
        _write_photographs(matches, out, result, link=link, steps=steps, test_ratio=test_ratio)
    return result


def _check(folders: Sequence[Path], out: Path, *, link: bool, steps: Sequence[str], test_ratio: float) -> None:
    for step in steps:
        if step not in STEPS:
            raise InputError(f"--steps {step}: the steps are {', '.join(STEPS)}{nearest_hint(step, STEPS)}")
    if steps and link:
        raise InputError("--link makes no new files, so that --steps cannot change them; leave one of them out")
    if not 0 <= test_ratio < 1:
        raise InputError(f"--test-ratio {test_ratio:g} is not at least 0 and below 1")
    for folder in folders:
        if out.resolve() == folder.resolve() or out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{out} lies in the folder of the photographs {folder}; choose another folder with -o")


def _write_truth(matches: Matches, out: Path, result: Arrangement) -> None:
    """Write ``TYPE/labels.csv``, or ``labels.csv`` without types."""
    by_type: dict[str, list[dict[str, Any]]] = {}
    for row, path in matches.found:
        kind = "good" if row.is_good else row.kind or _UNKNOWN_KIND
        by_type.setdefault(row.type, []).append({"name": path.stem, "label": int(not row.is_good), "kind": kind})
        name = f"{row.type or '.'}/{kind}"
        result.counts[name] = result.counts.get(name, 0) + 1
    files = {name: out / name / "labels.csv" for name in by_type}
    for path in files.values():
        if os.path.lexists(path):
            raise InputError(f"{path} exists; nothing is overwritten, so move it away or choose another folder with -o")
    for name, entries in by_type.items():
        write_table(files[name], ("name", "label", "kind"), sorted(entries, key=lambda entry: str(entry["name"])))


def _write_photographs(
    matches: Matches, out: Path, result: Arrangement, *, link: bool, steps: Sequence[str], test_ratio: float
) -> None:
    """Copy or link each photograph to ``[TYPE/]train/good`` or ``[TYPE/]test/KIND``, and write what was done."""
    entries = []
    names = Counter(_target(row, path, test_ratio, steps) for row, path in matches.found)
    for row, path in matches.found:
        target = _target(row, path, test_ratio, steps)
        if names[target] > 1:  # files of several folders with the same name
            target = target.with_name(f"{path.parent.name}_{target.name}")
        try:
            is_new = _place(path, out / target, link=link, steps=steps)
        except InputError as error:
            result.failures.append(f"{path}: {error}")
            continue
        folder = target.parent.as_posix()
        result.counts[folder] = result.counts.get(folder, 0) + 1
        result.unchanged += not is_new
        entries.append(
            {"file": target.as_posix(), "source": str(path.absolute()), "sha256": file_hash(path), "row": row.where}
        )
    record = out / RECORD
    if entries:
        write_record(record, provenance() | {"steps": list(steps), "link": link, "photographs": entries})


def _target(row: Row, path: Path, test_ratio: float, steps: Sequence[str]) -> Path:
    name = f"{path.stem}.png" if steps else path.name
    if row.is_good and (row.split == "train" or (not row.split and _share(path.name) >= test_ratio)):
        return Path(row.type, "train", "good", name)
    return Path(row.type, "test", "good" if row.is_good else row.kind or _UNKNOWN_KIND, name)


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name only, so that a photograph always has the same use."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:4], "big") / 2**32


def _place(source: Path, target: Path, *, link: bool, steps: Sequence[str]) -> bool:
    """Make a file. Return whether it is new. Raise ``InputError`` if another file has its name."""
    if link:
        if target.is_symlink() and target.resolve() == source.resolve():
            return False
        _refuse(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.absolute())
        return True
    data = read_bytes(source)
    if steps:
        image = np.ascontiguousarray(as_uint8(read_image(source)[..., :3]))
        for step in steps:
            image = STEPS[step](np.ascontiguousarray(image))
        data = encode_image(".png", np.ascontiguousarray(image))
    if target.is_file() and file_hash(target) == data_hash(data):
        return False
    _refuse(target)
    write_bytes(target, data)
    return True


def _refuse(target: Path) -> None:
    if os.path.lexists(target):
        raise InputError(f"{target} exists and is another file; nothing is overwritten")
