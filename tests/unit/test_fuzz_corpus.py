"""Readers of files that a stranger may have made: valid files are accepted, and damaged files are refused.

``tests/fuzz/fuzz_readers.py`` finds files that break a reader, and keeps them in ``tests/fuzz/corpus``.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fuzz import limits
from fuzz.readers import READERS, Reader, accepts
from fuzz.seeds import seeds

from pixal.errors import InputError

pytestmark = pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\.")  # as ``pixal.cli`` does

CORPUS = Path(__file__).parents[1] / "fuzz/corpus"
FOUND = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    return seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("name", READERS)
def test_valid_files_are_accepted(name: str, valid: dict[str, list[bytes]], tmp_path: Path) -> None:
    for number, data in enumerate(valid[name]):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert limits.check(name, data, folder), number


@pytest.mark.parametrize("file", FOUND, ids=str)
def test_files_that_broke_a_reader_break_it_no_more(file: Path, tmp_path: Path) -> None:
    limits.check(file.parent.name, (CORPUS / file).read_bytes(), tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_half_files_and_empty_ones_break_no_reader(name: str, valid: dict[str, list[bytes]], tmp_path: Path) -> None:
    for number, data in enumerate(valid[name]):
        for part, changed in enumerate((b"", data[: len(data) // 2], data[:-1], data[len(data) // 3 :], data[::-1])):
            folder = tmp_path / f"{number}_{part}"
            folder.mkdir()
            limits.check(name, changed, folder)


def test_faults_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception, a message of two lines, too much time, too much memory."""

    def fails(error: Exception) -> Reader:
        def read(_: bytes, __: Path) -> None:
            raise error

        return Reader(read)

    def slow(_: bytes, __: Path) -> None:
        start = time.thread_time()
        while time.thread_time() < start + 0.2:
            pass

    monkeypatch.setattr(limits, "SECONDS", 0.1)
    monkeypatch.setattr(limits, "MEMORY", 50_000)
    for name, reader in {
        "refused": fails(InputError("no image")),
        "key": fails(KeyError("a")),
        "lines": fails(InputError("no\nimage")),
        "slow": Reader(slow),
        "large": Reader(lambda *_: b"x" * 250_000_000),
    }.items():
        monkeypatch.setitem(READERS, name, reader)
    assert not accepts("refused", b"", tmp_path)
    with pytest.raises(KeyError):
        accepts("key", b"", tmp_path)
    with pytest.raises(AssertionError, match="not one line"):
        accepts("lines", b"", tmp_path)
    with pytest.raises(AssertionError, match=r"0\.[2-9] s"):
        limits.check("slow", b"", tmp_path)
    monkeypatch.setattr(limits, "SECONDS", 10)  # 250 MB of new pages take a moment on a busy machine
    if limits.peak_memory():
        with pytest.raises(AssertionError, match="MB"):
            limits.check("large", b"", tmp_path)
