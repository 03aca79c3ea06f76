"""The examples run, and do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
def test_the_first_component_gets_verdicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "first_component.py"))["main"](train=6, parts=1, width=480)
    out = capsys.readouterr().out
    assert "photographs, " in out
    assert "report: validate" in out
    assert Path("validate/My_Circuit/report.html").is_file()
    assert len(list(Path("inspection").glob("*/inspection.html"))) == 1
