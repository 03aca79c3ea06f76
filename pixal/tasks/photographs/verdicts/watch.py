"""A watched folder: each photograph gets its verdict as it comes, and the results follow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.io.files import file_stat
from pixal.tasks.photographs.discovery import EXTENSIONS, Photograph, list_photographs
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.reporting import clear, say, track, write_up, writing
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.validate_type import TypeJudging
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, Entry

_log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds that a file may stay as it is and unreadable before it is an error
_TABLES, _FIGURES = 5.0, 60.0  # seconds from one writing of the tables and the report, or of the figures, to the next
_SHARE = 10  # and at least as many times as long as the writing took


def watch(
    input_path: str | Path,
    *,
    model: str | None = None,
    config: PhotographConfig,
    force: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Batch:
    """See ``pixal.watch``."""
    folder = Path(input_path)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder that could be watched")
    watched = _Watched(folder, config, model)
    with writing(config) as tracker:
        try:
            watched.start(force)
            while True:
                watched.look()
                pause(config.validation.watch_interval)
        except KeyboardInterrupt:
            _log.info("the watch ends; writing its results")
        batch, written = watched.finish()
        verdicts = [judging.verdicts for judging in watched.types.values()]
        if batch.parts:
            track(tracker, verdicts, batch, written, config)
    say(batch)
    return batch


@dataclass
class _Seen:
    """A file that has no verdict yet: its size and time, and for how many looks they have been the same."""

    stat: tuple[int, int]
    looks: int = 0


class _Due:
    """When something that takes long is to be done again."""

    def __init__(self, interval: float) -> None:
        self._interval, self._next = interval, 0.0
        self.wanted = False

    def run(self, work: Callable[[], object]) -> None:
        """Do it, if it is wanted and its time has come."""
        if self.wanted and time.monotonic() >= self._next:
            start = time.monotonic()
            work()
            now = time.monotonic()
            self._next = now + max(self._interval, _SHARE * (now - start))
            self.wanted = False


class _Watched:
    """The folder, what was seen in it, and the verdicts by type."""

    def __init__(self, folder: Path, config: PhotographConfig, model: str | None) -> None:
        self.folder, self.config, self.models = folder, config, Models(config, model)
        self.types: dict[str, TypeJudging] = {}
        self._waiting: dict[Path, _Seen] = {}
        self._said: set[str] = set()
        self._tables, self._figures = _Due(_TABLES), _Due(_FIGURES)

    def start(self, force: bool) -> None:
        """Take up what an earlier watch of this folder has judged, and write that down."""
        self.models.check_any()
        root = self.config.paths.resolve("component_validate_path")
        judged = [path.parent.parent.name for path in sorted(root.glob(f"*/metadata/{JOURNAL}"))]
        names = [] if force else [name for name in judged if self.models.knows(name)]
        clear(self.config, keep=set(names))
        listed = self._list()
        mixed = [photo for photos in listed.values() for photo in photos] if self.models.is_mixed(listed) else []
        for name in names:
            self._take_up(name, mixed or listed.get(name, []))
        count = sum(len(judging.judged.entries) for judging in self.types.values())
        _log.info("watching %s, Ctrl-C ends; %d part%s judged already", self.folder, count, "" if count == 1 else "s")
        self._write(changed=count > 0)

    def look(self) -> None:
        """Look at the folder once: judge what is complete, and write down what has come of it."""
        listed = self._list()
        waiting: dict[Path, _Seen] = {}
        ready = {name: [photo for photo in photos if self._is_ready(photo, waiting)] for name, photos in listed.items()}
        self._waiting = waiting
        if self.models.is_mixed(listed):
            ready = self.models.choose(next(iter(ready.values())), quiet=True)
        changed = False
        for name, photographs in ready.items():
            if not photographs or not self._is_trained(name):
                continue
            if name not in self.types:
                self._take_up(name, [])
            for entry in self.types[name].judge(photographs, self._waits):
                changed = True
                self._waiting.pop(Path(entry["record"]["source"]), None)
                self._give_way(name, entry)
                _log.info("%s", _line(entry))
        self._write(changed)

    def finish(self) -> tuple[Batch, list[Path]]:
        """Write all that a whole batch has; what waits for its file to be complete, or its type, is named."""
        if self._waiting:
            first, count = next(iter(self._waiting)), len(self._waiting)
            _log.warning("%d photograph%s without a verdict, as %s", count, "" if count == 1 else "s", first)
        types = self._gathered()
        for judging in types:
            judging.count()
            judging.finish()
            if self._figures.wanted:
                judging.draw()
        if not types:
            return Batch(self.config.paths.resolve("component_validate_path")), []
        return write_up([judging.verdicts for judging in types], self.config)

    def _list(self) -> dict[str, list[Photograph]]:
        """The photographs that are there; what is wrong with the folder is said once."""
        try:
            found = list_photographs(self.folder, test=True)
        except (InputError, OSError) as error:  # such as a network drive that is away
            if not self.folder.is_dir() or any(path.suffix.lower() in EXTENSIONS for path in self.folder.rglob("*")):
                self._warn_once(f"{error}; waiting until that has changed")
            return {}
        return found

    def _is_ready(self, photo: Photograph, waiting: dict[Path, _Seen]) -> bool:
        """Whether a photograph has no verdict, and has not changed since the last look."""
        try:
            stat = file_stat(photo.path)
        except InputError:  # taken away since it was listed
            return False
        if any(judging.holds(photo, stat) for judging in self.types.values()):
            return False
        seen = self._waiting.get(photo.path)
        seen = _Seen(stat, seen.looks + 1) if seen is not None and seen.stat == stat else _Seen(stat)
        waiting[photo.path] = seen
        return seen.looks > 0

    def _waits(self, photo: Photograph, part: PreparedPart) -> bool:
        """Whether a photograph is not to be judged yet: it has changed while it was read, or may yet become whole."""
        seen = self._waiting[photo.path]
        if part.record.stat != seen.stat:
            return True
        return not part.is_readable and seen.looks * self.config.validation.watch_interval < PATIENCE

    def _take_up(self, name: str, photographs: list[Photograph]) -> None:
        judging = TypeJudging(name, self.models.of(name), None, self.config)
        judging.take_up(photographs, gone_from=self.folder)
        self.types[name] = judging

    def _give_way(self, name: str, new: Entry) -> None:
        """Drop what a new verdict stands in the place of: one of its photograph as another type, or of its name."""
        for judging in self.types.values():
            for source, entry in list(judging.judged.entries.items()):
                same = source == new["source"] if judging.name != name else _same_name(entry, new)
                if same and entry is not new:
                    judging.forget(source)

    def _gathered(self) -> list[TypeJudging]:
        types = [judging for _, judging in sorted(self.types.items()) if judging.judged.entries]
        for judging in types:
            judging.gather()
        return types

    def _write(self, changed: bool) -> None:
        """Write the tables and the report, and draw the figures, each where that is due."""
        self._tables.wanted |= changed
        self._figures.wanted |= changed
        self._tables.run(self._write_tables)
        self._figures.run(self._draw)

    def _write_tables(self) -> None:
        types = self._gathered()
        for judging in types:
            judging.write_table()
        if types:
            write_up([judging.verdicts for judging in types], self.config, aloud=False)

    def _draw(self) -> None:
        for judging in self._gathered():
            judging.count()
            judging.draw()

    def _is_trained(self, name: str) -> bool:
        known = self.models.knows(name)
        if not known:
            self._warn_once(f"type {name} was never trained; its photographs wait until it is")
        return known

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            _log.warning("%s", text)
        self._said.add(text)


def _same_name(entry: Entry, other: Entry) -> bool:
    ours, theirs = entry["record"], other["record"]
    return bool(ours["image"] == theirs["image"] or ours["name"].lower() == theirs["name"].lower())


def _line(entry: Entry) -> str:
    """A part's verdict in a line."""
    part = entry["part"]
    start = f"{part['verdict']:<5}  {part['type']}/{part['image']}"
    if part["verdict"] == "error":
        return f"{start}  {part['reason']}"
    text = f"{start}  score {part['score']:.3g}, threshold {part['threshold']:.3g}"
    if part["regions"]:
        worst, count = part["regions"][0], len(part["regions"])
        place = f"x {worst['x']}, y {worst['y']}, {worst['width']}x{worst['height']} pixels"
        text += f"; {count} region{'' if count == 1 else 's'}, the worst at {place}"
    return text
