"""Whether files that an earlier run wrote still hold what it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pixal.errors import InputError
from pixal.io.files import FileStat, file_hash, file_stat


class WrittenFile(BaseModel):
    """Identity of a file when it was written: size, time and hash.

    Attributes:
        sha256: The SHA-256 of its content.
        stat: Its ``file_stat``. While this is the same, the content need not be read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    stat: FileStat


WrittenFiles = dict[str, WrittenFile]
"""Some files, by name."""


def written_files(paths: Iterable[Path]) -> WrittenFiles:
    """Describe files that have just been written. Raise ``InputError`` if one of them is missing."""
    return {path.name: WrittenFile(stat=file_stat(path), sha256=file_hash(path)) for path in paths}


def unchanged_files(paths: Iterable[Path], written: Mapping[str, WrittenFile]) -> WrittenFiles | None:
    """Check that files hold what was written. A file that was copied or touched is read.

    Args:
        paths: The files.
        written: What was written, by name; it may describe other files, too.

    Returns:
        ``written`` with today's ``stat`` of the files; None if one of them is missing, changed or not described.
    """
    current = dict(written)
    for path in paths:
        expected = written.get(path.name)
        if expected is None:
            return None
        try:
            stat = file_stat(path)
        except InputError:
            return None
        if stat != expected.stat:
            if stat[0] != expected.stat[0] or file_hash(path) != expected.sha256:
                return None
            current[path.name] = WrittenFile(sha256=expected.sha256, stat=stat)
    return current
