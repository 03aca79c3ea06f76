"""Progress bars in notebooks. Those in files and pipes are tested with the commands."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import tqdm.notebook

from pixal import progress
from pixal.progress import progress_bar


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


@pytest.mark.usefixtures("notebook")
def test_a_notebook_gets_a_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(progress, "find_spec", lambda _: True)
    monkeypatch.setattr(tqdm.notebook, "tqdm", lambda items, **options: made.append(options) or items)
    assert list(progress_bar([1, 2], total=2, title="fits ", unit="fit", quiet=False)) == [1, 2]
    assert made == [{"total": 2, "desc": "fits", "unit": "fit", "disable": False, "leave": True}]


@pytest.mark.usefixtures("notebook")
def test_without_ipywidgets_the_line_is_redrawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "find_spec", lambda _: None)
    assert list(progress_bar([1, 2], total=2, title="fits", unit="fit", quiet=False)) == [1, 2]
    assert "\r" in capsys.readouterr().err


def test_ipython_in_a_terminal_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    list(progress_bar([1, 2], total=2, title="fits", unit="fit", quiet=False))
    assert "\r" not in capsys.readouterr().err


def test_a_bar_of_nothing_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([], total=0, title="verdicts", unit="", quiet=False)) == []
    assert capsys.readouterr().err == ""
