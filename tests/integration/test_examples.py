"""The examples run, and do what they say."""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_notebooks_are_stored_without_output() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["charge_clusters", "first_component", "own_model"]
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the notebooks go to a temporary folder
    monkeypatch.setattr(sys, "path", [*sys.path])
    names: dict[str, object] = {"__name__": path.stem}
    for source in _code(path):
        exec(compile(source, path.name, "exec"), names)
    assert len(list(tmp_path.glob("*/validate/*/report.html"))) == 1


def _code(path: Path) -> Iterator[str]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"])


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
