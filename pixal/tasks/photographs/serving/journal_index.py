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
        self._inode, self._end = -1, 0

    def find(self, image: str) -> StoredVerdict | None:
        """The newest verdict on a photograph; None if there is none."""
        with self._lock:
            self._update()
            line = self._lines.get(image)
        return None if line is None else parse_line(line)

    def _update(self) -> None:
        try:
            file = self._path.open("rb")
        except OSError:
            self._lines, self._inode = {}, -1
            return
        with file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != self._inode or stat.st_size < self._end:
                self._lines, self._inode, self._end = {}, stat.st_ino, 0
            if stat.st_size == self._end:
                return
            file.seek(self._end)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._end += complete
        for line in data[:complete].splitlines():
            image = _image(line)
            if image is not None:
                self._lines[image] = line


def _image(line: bytes) -> str | None:
    """The photograph of a line; None if the line is damaged."""
    try:
        image = parse_json(line)["part"]["image"]
    except (ValueError, KeyError, TypeError):
        return None
    return image if isinstance(image, str) else None
