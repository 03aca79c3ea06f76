"""Find the stored verdict of one part quickly, also while ``validate --watch`` adds verdicts."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from pixal.io.json_text import parse_json
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, parse_line


class JournalIndex:
    """The lines of a journal by the name of the photograph. Only what was added since is read again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._lines: dict[str, bytes] = {}
        self._verdicts: dict[str, tuple[str, str | None]] = {}
        self._inode, self._end = -1, 0

    def find(self, image: str) -> StoredVerdict | None:
        """The newest verdict on a photograph; None if there is none."""
        with self._lock:
            self._update()
            line = self._lines.get(image)
        return None if line is None else parse_line(line)

    @property
    def modified(self) -> int:
        """When the journal was written last, in nanoseconds; 0 if there is none."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def verdicts(self) -> dict[str, tuple[str, str | None]]:
        """Each verdict and the hash of its photograph (None if it could not be read), by the name of the photograph."""
        with self._lock:
            self._update()
            return dict(self._verdicts)

    def _update(self) -> None:
        try:
            file = self._path.open("rb")
        except OSError:
            self._lines, self._verdicts, self._inode = {}, {}, -1
            return
        with file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != self._inode or stat.st_size < self._end:
                self._lines, self._verdicts, self._inode, self._end = {}, {}, stat.st_ino, 0
            if stat.st_size == self._end:
                return
            file.seek(self._end)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._end += complete
        for line in data[:complete].splitlines():
            found = _verdict(line)
            if found is not None:
                image, verdict, sha256 = found
                self._lines[image], self._verdicts[image] = line, (verdict, sha256)


def _verdict(line: bytes) -> tuple[str, str, str | None] | None:
    """The name of the photograph, the verdict, and the hash of the photograph; None if the line is damaged."""
    try:
        content = parse_json(line)
        part, sha256 = content["part"], content["record"].get("sha256")
        return str(part["image"]), str(part["verdict"]), sha256 or None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
