"""Names of files that strangers chose: show them safely, compare them, and shorten them for output files."""

from __future__ import annotations

import hashlib
import re
import unicodedata

LONGEST_STEM = 200  # bytes; leaves room for endings such as "anomaly_overlay_NAME.png" in the 255 bytes of a name

# Control characters, line and paragraph separators, marks that turn the direction of text, and lone surrogates: Python
# decodes each byte of a file name that is not UTF-8 to one of these (PEP 383).
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape characters that a terminal would obey, and not show, and bytes that are not UTF-8 (``\r``, ``\xff``)."""
    return _HIDDEN.sub(_escape, text)


def as_utf8(text: str) -> str:
    r"""Escape bytes that are not UTF-8, for example as ``\xff``."""
    return _SURROGATES.sub(_escape, text)


def is_utf8(text: str) -> bool:
    """Whether a name can be written as UTF-8."""
    return _SURROGATES.search(text) is None


def comparable(name: str) -> str:
    """Return a form that is equal for names that a file system may take for the same.

    Such names differ only in upper and lower case, or in whether an accent is a character of its own (NFC and NFD).
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def shorten_stem(stem: str) -> str:
    """Return a stem of at most ``LONGEST_STEM`` bytes: a longer one is cut, and gets a part of its SHA-256."""
    data = stem.encode(errors="surrogatepass")
    if len(data) <= LONGEST_STEM:
        return stem
    digest = hashlib.sha256(data).hexdigest()[:12]
    return f"{data[: LONGEST_STEM - 1 - len(digest)].decode(errors='ignore')}_{digest}"


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
