"""Limits for YAML that anyone may have written. They are checked before anything is built from the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# LibYAML is ten times as fast as the Python classes, and a record holds one row per image.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

CONSTRUCTION_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Exceptions of PyYAML for a value that its tag, written or implied, does not allow: ``!!int x``, ``2026-99-99``."""

_MAX_DEPTH = 50  # PIXAL's own files have at most 8 levels
_MAX_REPEATED = 10_000  # nodes that aliases may add
_MAX_DIGITS = 100
_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-FxXobB_.:+-]*")
_FORBIDDEN = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class YamlLimits:
    """Limits on the size of a YAML text.

    Attributes:
        size: In bytes.
        nodes: Number of keys, values and collections, without those that aliases add.
    """

    size: int
    nodes: int


SETTINGS = YamlLimits(size=256 << 10, nodes=20_000)
"""For files that users write."""

RECORDS = YamlLimits(size=64 << 20, nodes=8_000_000)
"""For files that PIXAL writes: about 90 000 photographs of one type."""


class YamlLimitError(yaml.MarkedYAMLError):
    """The text exceeds a limit, or holds what no setting can be."""


def read_limited(path: Path, limits: YamlLimits) -> str:
    """Read a file as text.

    Raises:
        YamlLimitError: The file is too large.
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(limits.size + 1)
    if len(data) > limits.size:
        raise YamlLimitError(problem=f"is larger than {limits.size >> 10} kB, the limit for this file")
    return data.decode("utf-8")


def check_limits(text: str, limits: YamlLimits, *, may_contain_itself: bool = False) -> frozenset[str]:
    """Check a YAML text without building anything from it.

    Args:
        text: The text.
        limits: What it may be.
        may_contain_itself: Whether an alias may stand inside the node that it repeats; the caller has to refuse it.

    Returns:
        The top-level keys whose value has an anchor.

    Raises:
        YamlLimitError: The text is too long or nested too deeply, its aliases repeat too much, or it holds a number or
            a character that no setting can have.
        yaml.YAMLError: The text is not YAML.
    """
    check = _Check(limits, may_contain_itself)
    for event in yaml.parse(text, Loader=LOADER):
        check.add(event)
    return frozenset(check.anchored)


@dataclass
class _Open:
    """A collection whose end has not been read.

    Attributes:
        anchor: Its anchor.
        size: Number of nodes in it, with those that aliases add.
        height: Levels below it.
    """

    anchor: str | None
    size: int = 1
    height: int = 0


class _Check:
    """Counts the nodes of a text, event by event."""

    def __init__(self, limits: YamlLimits, may_contain_itself: bool) -> None:
        self._limits, self._may_contain_itself = limits, may_contain_itself
        self._open: list[_Open] = []
        self._anchors: dict[str, _Open] = {}
        self._nodes = self._repeated = self._top_level = 0
        self._key = ""
        self.anchored: set[str] = set()

    def add(self, event: yaml.Event) -> None:
        """Count an event. Raise ``YamlLimitError`` if a limit is exceeded."""
        if isinstance(event, yaml.CollectionEndEvent):
            self._close(self._open.pop())
        elif isinstance(event, yaml.NodeEvent):
            self._nodes += 1
            if self._nodes > self._limits.nodes:
                raise _error(f"more than {self._limits.nodes} keys and values", event)
            if len(self._open) == 1:
                self._note_top_level(event)
            if isinstance(event, yaml.AliasEvent):
                self._repeat(event)
            elif isinstance(event, yaml.ScalarEvent):
                _check_scalar(event)
                self._close(_Open(event.anchor))
            else:
                self._open.append(_Open(event.anchor))
            if len(self._open) > _MAX_DEPTH:
                raise _error(f"nested more than {_MAX_DEPTH} levels deep", event)

    def _note_top_level(self, event: yaml.NodeEvent) -> None:
        self._top_level += 1
        if self._top_level % 2:
            self._key = str(getattr(event, "value", ""))
        elif event.anchor is not None and not isinstance(event, yaml.AliasEvent):
            self.anchored.add(self._key)

    def _repeat(self, event: yaml.AliasEvent) -> None:
        known = self._anchors.get(str(event.anchor))
        if known is None:
            if event.anchor not in [node.anchor for node in self._open]:
                raise _error(f"the alias *{event.anchor} has no anchor &{event.anchor} before it", event)
            if not self._may_contain_itself:
                raise _error(f"the alias *{event.anchor} is inside the node that it repeats", event)
            return
        self._repeated += known.size
        if self._repeated > _MAX_REPEATED:
            raise _error(f"aliases repeat more than {_MAX_REPEATED} keys and values", event)
        if len(self._open) + known.height > _MAX_DEPTH:
            raise _error(f"nested more than {_MAX_DEPTH} levels deep, through aliases", event)
        self._add_to_parent(known)

    def _close(self, node: _Open) -> None:
        if node.anchor is not None:
            self._anchors[node.anchor] = node
        self._add_to_parent(node)

    def _add_to_parent(self, node: _Open) -> None:
        if self._open:
            parent = self._open[-1]
            parent.size += node.size
            parent.height = max(parent.height, node.height + 1)


def _check_scalar(event: yaml.ScalarEvent) -> None:
    if _FORBIDDEN.search(event.value):
        raise _error("a character that is not allowed in names and values", event)
    is_number = event.implicit[0] or event.tag is not None
    if is_number and len(event.value) > _MAX_DIGITS and _NUMBER.fullmatch(event.value):
        raise _error(f"a number of more than {_MAX_DIGITS} digits", event)


def _error(problem: str, event: Any) -> YamlLimitError:
    return YamlLimitError(problem=problem, problem_mark=event.start_mark)
