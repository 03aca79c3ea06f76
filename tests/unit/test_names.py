"""Tests of names: shown without control characters, compared as file systems do, and short enough for outputs."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixal.io.names import LONGEST_STEM, as_utf8, comparable, is_utf8, printable, shorten_stem

NAMES = st.text(st.characters(exclude_categories=()), max_size=300)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\rb\n.png", r"a\rb\n.png"),
        ("\x1b[31m\x07\x00\x7f\x9b", r"\x1b[31m\x07\x00\x7f\x9b"),
        (os.fsdecode(b"caf\xe9.png"), r"caf\xe9.png"),
        ("\ud800", r"\ud800"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("Größe 漢字 🙂 $x$ <b> \\ '\".png", "Größe 漢字 🙂 $x$ <b> \\ '\".png"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped_and_all_else_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(NAMES)
def test_shown_text_is_one_line_of_utf_8(text: str) -> None:
    shown = printable(text)
    assert is_utf8(shown)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown)
    assert printable(shown) == shown
    assert as_utf8(text) == text if is_utf8(text) else is_utf8(as_utf8(text))


def test_names_that_a_file_system_takes_for_the_same_are_equal() -> None:
    composed, decomposed = "É.png", "E\u0301.png"
    assert comparable(composed) == comparable(decomposed) == comparable("é.png") == comparable("e\u0301.png")
    assert comparable("e.png") != comparable(composed)


@given(st.lists(NAMES, min_size=2, max_size=5, unique=True))
def test_a_short_stem_stays_and_a_long_one_is_cut_and_unique(stems: list[str]) -> None:
    short = [shorten_stem(stem) for stem in stems]
    for before, after in zip(stems, short, strict=True):
        assert len(after.encode(errors="surrogatepass")) <= LONGEST_STEM
        if len(before.encode(errors="surrogatepass")) <= LONGEST_STEM:
            assert after == before
    assert len(set(short)) == len(stems)


def test_long_stems_that_differ_at_the_end_only_stay_different() -> None:
    first, second = shorten_stem("ü" * 124 + "1"), shorten_stem("ü" * 124 + "2")
    assert first != second
    assert first.startswith("ü" * 93 + "_")
