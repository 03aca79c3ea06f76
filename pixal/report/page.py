"""Shared by the HTML pages: templates, hashes for the content security policy, formats, and how they are written."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.environment import TemplateStream

from pixal.io.files import atomic_write

_FOLDER = Path(__file__).parent
_SMALLEST_P = 1e-6  # smaller p-values are shown as "below" this one


@cache  # a template takes longer to compile than to fill
def page_environment(folder: Path = _FOLDER) -> Environment:
    """Templates of a folder, by default of this one; text is escaped.

    The filters are ``figure`` (a number), ``p_value`` and ``day`` (a time).
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters.update(figure=_format_number, p_value=format_p_value, day=_format_time)
    return environment


def read_page_file(name: str, folder: Path = _FOLDER) -> str:
    """Read a style sheet or a script of a folder, by default of this one."""
    return (folder / name).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """Hash of a style sheet or a script, as the content security policy of the page states it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def write_stream(path: Path, stream: TemplateStream) -> None:
    """Render a template into a temporary file, then move it to ``path``."""
    stream.enable_buffering(20)
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as page:
        page.writelines(stream)


def format_p_value(p_value: float) -> str:
    """A p-value as it follows the letter p, for example ``= 0.003``."""
    return f"= {p_value:.1g}" if p_value >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


def _format_number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"


def _format_time(text: str) -> str:
    """An ISO 8601 time in words; other text unchanged."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).strftime("%d %B %Y, %H:%M").lstrip("0")
    except ValueError:
        return text
