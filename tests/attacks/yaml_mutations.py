"""Changes to YAML files that follow its grammar, for hypothesis: aliases, merges, tags, nesting, sizes, odd values."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hypothesis import strategies as st

_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
SCALARS = (
    *("", "~", "null", "yes", "off", "0", "-1", "0x1F", "0o17", "1_000", "1e999", "-.inf", ".nan", "1e-400"),
    *("9" * 90, "9" * 5000, "-" + "9" * 400, "0." + "0" * 300 + "1", "0b" + "1" * 200, "12:30:45", "2026-02-30"),
    *("\0", "a\0b", "\x1b[2J", "\r", "a\nb", "\ud800", "\ufeff", "\u202e", "é" * 200, "\U0001f600", "\u2028", " "),
    *("~nosuchuser/x", "../../x", "/", "/dev/full", ".", "a" * 300, "a" * 100_000, "=cmd|' /C calc'!A0", "*x"),
    *("ALL", "auto", "front", "border", "LAB_L", "gaussian", "photographs", "[1, 2]", "{a: 1}", "<<", "&x", "!!int"),
)
_KINDS = ("int", "float", "bool", "null", "binary", "timestamp", "set", "omap", "pairs", "str", "seq", "map", "merge")
_CODE = ("python/object/apply:os.system", "python/name:os.system")
TAGS = (*(f"tag:yaml.org,2002:{name}" for name in (*_KINDS, *_CODE, "value", "unknown")), "!local")
BYTES = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\t", b"\r", b"\x85", b"---\n", b"...\n", b"%YAML 9.9\n", b"%TAG ! !x\n"),
    *(b"[" * 60, b"{a: " * 60, b"- " * 60, b"[" * 5000, b"? " * 500, b"&a *a", b"*a", b"<<: *a\n", b"!!set ", b"|\n"),
    *(b"'", b'"', b": ", b"- ", b", ", b"#", b"\n", b"\n" * 3000, b"&x " * 100, b"!<", b"@", b"`", b"a: 1\n" * 3000),
)


MOST_CHILDREN = 100  # of a node that grows; by twice 3,000 times it would have millions, which no reader is shown


def changed(text: bytes) -> st.SearchStrategy[bytes]:
    """Copies of a YAML file with one to six changes to its nodes, and up to three to its bytes."""
    step = st.tuples(st.sampled_from(sorted(_CHANGES)), st.integers(0, 2**32 - 1))
    edit = st.tuples(st.sampled_from(sorted(_EDITS)), st.integers(0, 2**32 - 1))
    return st.builds(
        lambda steps, edits: _edit(_serialized(text, steps), edits),
        st.lists(step, min_size=0, max_size=6),
        st.lists(edit, max_size=3) | st.just([]),
    )


def _serialized(text: bytes, steps: list[tuple[str, int]]) -> bytes:
    root = yaml.compose(text.decode(), Loader=_LOADER)
    for name, seed in steps:
        generator = random.Random(seed)
        nodes = list(_nodes(root))
        _CHANGES[name](generator.choice(nodes), nodes, generator)
    try:
        return yaml.serialize(root, Dumper=_DUMPER, allow_unicode=True, encoding="utf-8", width=10**6)
    except (yaml.YAMLError, UnicodeError):  # a node that cannot be written, for example a lone surrogate
        return text


def _nodes(root: Any) -> Iterator[Any]:
    """All nodes, each once: a change may have made them contain themselves."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [inner for pair in node.value for inner in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _scalar(generator: random.Random) -> yaml.ScalarNode:
    """A value, written plainly, as a string, or with a tag."""
    value, style = generator.choice(SCALARS), generator.choice((None, '"', "'", "|"))
    tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (True, False)) if style is None else _STRING
    return yaml.ScalarNode(generator.choice(TAGS) if generator.random() < 0.1 else tag, value, style=style)


def _become(node: Any, other: Any) -> None:
    """Replace a node in all its places."""
    node.__class__ = other.__class__
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)


def _replace(node: Any, _: list[Any], generator: random.Random) -> None:
    _become(node, _scalar(generator))


def _tag(node: Any, _: list[Any], generator: random.Random) -> None:
    node.tag = generator.choice(TAGS)


def _children(nodes: list[Any], kind: type[Any]) -> list[Any]:
    return [node for node in nodes if isinstance(node, kind) and node.value]


def _alias(node: Any, nodes: list[Any], generator: random.Random) -> None:
    """Put a node into another place, which may lie inside it."""
    if parents := _children(nodes, yaml.CollectionNode):
        parent = generator.choice(parents)
        index = generator.randrange(len(parent.value))
        if isinstance(parent, yaml.MappingNode):
            parent.value[index] = (parent.value[index][0], node)
        else:
            parent.value[index] = node


def _merge(node: Any, nodes: list[Any], generator: random.Random) -> None:
    if parents := _children(nodes, yaml.MappingNode):
        merged = node if generator.random() < 0.7 else yaml.SequenceNode("tag:yaml.org,2002:seq", [node] * 3)
        generator.choice(parents).value.append((yaml.ScalarNode(_MERGE, "<<"), merged))


def _double_key(_: Any, nodes: list[Any], generator: random.Random) -> None:
    if parents := _children(nodes, yaml.MappingNode):
        pairs = generator.choice(parents).value
        pairs.append(copy.deepcopy(generator.choice(pairs)) if generator.random() < 0.5 else generator.choice(pairs))


def _rename_key(node: Any, nodes: list[Any], generator: random.Random) -> None:
    if parents := _children(nodes, yaml.MappingNode):
        pairs = generator.choice(parents).value
        index = generator.randrange(len(pairs))
        pairs[index] = (node if generator.random() < 0.3 else _scalar(generator), pairs[index][1])


def _remove(_: Any, nodes: list[Any], generator: random.Random) -> None:
    if parents := _children(nodes, yaml.CollectionNode):
        values = generator.choice(parents).value
        del values[generator.randrange(len(values))]


def _nest(node: Any, _: list[Any], generator: random.Random) -> None:
    inner = copy.copy(node)
    for _level in range(generator.choice((1, 2, 30, 60))):
        if generator.random() < 0.5:
            inner = yaml.SequenceNode("tag:yaml.org,2002:seq", [inner])
        else:
            inner = yaml.MappingNode("tag:yaml.org,2002:map", [(yaml.ScalarNode(_STRING, "base"), inner)])
    _become(node, inner)


def _other_kind(node: Any, _: list[Any], __: random.Random) -> None:
    if isinstance(node, yaml.MappingNode):
        _become(node, yaml.SequenceNode("tag:yaml.org,2002:seq", [inner for pair in node.value for inner in pair]))
    elif isinstance(node, yaml.SequenceNode):
        keys = [yaml.ScalarNode(_STRING, str(index)) for index in range(len(node.value))]
        _become(node, yaml.MappingNode("tag:yaml.org,2002:map", list(zip(keys, node.value, strict=True))))


def _grow(_: Any, nodes: list[Any], generator: random.Random) -> None:
    if parents := _children(nodes, yaml.CollectionNode):
        node = generator.choice(parents)
        if len(node.value) > MOST_CHILDREN:  # it has grown already
            return
        if isinstance(node, yaml.SequenceNode):
            node.value = node.value * generator.choice((2, 100, 3000))
        else:
            value = node.value[0][1]
            keys = range(generator.choice((2, 100, 3000)))
            node.value += [(yaml.ScalarNode(_STRING, f"key{key}"), value) for key in keys]


def _bomb(node: Any, _: list[Any], generator: random.Random) -> None:
    inner = _scalar(generator)
    for _level in range(generator.choice((3, 9, 40))):
        inner = yaml.SequenceNode("tag:yaml.org,2002:seq", [inner] * generator.choice((2, 9)))
    _become(node, inner)


_CHANGES: dict[str, Callable[[Any, list[Any], random.Random], None]] = {
    "replace": _replace,
    "tag": _tag,
    "alias": _alias,
    "merge": _merge,
    "double key": _double_key,
    "rename key": _rename_key,
    "remove": _remove,
    "nest": _nest,
    "other kind": _other_kind,
    "grow": _grow,
    "bomb": _bomb,
}


def _edit(data: bytes, edits: list[tuple[str, int]]) -> bytes:
    for name, seed in edits:
        data = _EDITS[name](data, random.Random(seed))
    return data


def _insert(data: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(data) + 1)
    return data[:start] + generator.choice(BYTES) + data[start:]


def _cut(data: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(data) + 1)
    return data[:start] + data[start + generator.choice((1, 10, len(data))) :]


def _repeat(data: bytes, generator: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    start = generator.randrange(len(lines))
    return b"".join(lines[:start] + lines[start : start + 3] * generator.choice((2, 50, 2000)) + lines[start:])


def _encode(data: bytes, generator: random.Random) -> bytes:
    return data.decode(errors="replace").encode(generator.choice(("utf-16", "utf-32", "latin-1", "utf-7")), "replace")


_EDITS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "insert": _insert,
    "cut": _cut,
    "repeat": _repeat,
    "encode": _encode,
}
