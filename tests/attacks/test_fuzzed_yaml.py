"""Changed YAML files: each is read, or refused with one line, in 2 seconds and 500 MB."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from fuzz.limits import check
from fuzz.seeds import seeds
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from tries import tries
from yaml_mutations import changed

pytestmark = pytest.mark.slow

FILES = (
    *("parameters", "paths", "preprocessing"),
    *("background_record", "alignment_record", "input_record", "validation_record", "model_record"),
)


@cache
def files_of(name: str, folder: Path) -> tuple[bytes, ...]:
    folder.mkdir(exist_ok=True)
    return tuple(seeds(folder)[name])


# Hypothesis warns of a long file before it raises the fault, and an error in place of the warning would hide it.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("name", FILES)
def test_changed_files_are_read_or_refused(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp(name)
    folder, counts = root / "read", {True: 0, False: 0}
    folder.mkdir()

    @given(data=st.sampled_from(files_of(name, root / "seeds")).flatmap(changed))
    @settings(max_examples=tries(30, 300), phases=(Phase.generate,))  # making a fault smaller would take minutes
    def attack(data: bytes) -> None:
        note(repr(data[:2000]))
        for old in folder.iterdir():
            old.unlink()
        counts[check(name, data, folder)] += 1

    attack()
    assert min(counts.values()), counts  # some changes leave the file valid
