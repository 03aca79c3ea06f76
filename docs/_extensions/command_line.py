"""The page of the command line, from the parsers: each command with its usage, options and examples."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from sphinx.application import Sphinx

from pixal.commands.parser import build_parser

PAGE, MARKER = "reference/commands", "<!-- commands -->"
_COMMON = {"quiet", "config", "overrides", "log_level", "debug", "help"}  # described once


def setup(app: Sphinx) -> dict[str, bool]:
    """Fill the page when Sphinx reads it."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(_: Sphinx, docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] = source[0].replace(MARKER, "\n".join(_page(build_parser())))


def _page(parser: argparse.ArgumentParser) -> Iterator[str]:
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    yield from (f"[{name}](#{name})" + " ·" * (name != list(commands.choices)[-1]) for name in commands.choices)
    first = next(iter(commands.choices.values()))
    yield "\n## Options of all commands\n"
    yield from _options(action for action in first._actions if action.dest in _COMMON)
    for name, command in commands.choices.items():
        yield f"\n## {name}\n"
        yield from _text(command.description or "")
        yield f"\n```text\n{_usage(command)}\n```\n"
        yield from _options(action for action in command._actions if action.dest not in _COMMON)
        yield from _text((command.epilog or "").replace("exit status: see pixal --help", ""))
    statuses = (parser.epilog or "").split("usual steps:")[0].removeprefix("exit status:\n").rstrip()
    yield f"\n## Exit status\n\n```text\n{statuses}\n```"


def _usage(command: argparse.ArgumentParser) -> str:
    """The usage without the options that all commands have."""
    usage = " ".join(command.format_usage().removeprefix("usage: ").split())
    common = [r"\[-h\]", r"\[-q\]", r"\[-c DIR\]", r"\[--set KEY=VALUE\]", r"\[--log-level \{[^}]*\}\]", r"\[--debug\]"]
    usage = re.sub(rf" (?:{'|'.join(common)})", "", usage)
    return re.sub(r" (?=\[-|-)", "\n    ", usage, flags=re.MULTILINE) if len(usage) > 90 else usage


def _options(actions: Iterator[argparse.Action]) -> Iterator[str]:
    rows = []
    for action in actions:
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
        value = "" if action.nargs == 0 or not action.option_strings else f" `{action.metavar or _value(action)}`"
        text = (action.help or "") % {**vars(action), "prog": "pixal"} if action.help else ""
        rows.append(f"| {names}{value} | {_escaped(text[:1].upper() + text[1:])} |")
    if rows:
        yield from ("", "| Option | Meaning |", "|---|---|", *rows, "")


def _value(action: argparse.Action) -> str:
    return "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()


def _text(text: str) -> Iterator[str]:
    """Paragraphs; indented lines become code."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        lines = paragraph.split("\n")
        code = [line for line in lines if line.startswith("  ")]
        yield from ("", _escaped(" ".join(line.strip() for line in lines if line not in code)), "")
        if code:
            yield from ("```text", *(line[2:] for line in code), "```")


def _escaped(text: str) -> str:
    """Options and placeholders as code, so that ``--help`` keeps its dashes; the rest as text."""
    text = text.replace("|", r"\|").replace("*", r"\*").replace("<", "&lt;")
    return re.sub(r"(?<![\w`-])(--?[a-z][\w-]*)", r"`\1`", text)
