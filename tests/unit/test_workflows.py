"""The hosted workflows name commands, sessions and files that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    """The sessions of noxfile.py, which is not imported because nox may be missing."""
    functions = [
        node for node in ast.parse((ROOT / "noxfile.py").read_text()).body if isinstance(node, ast.FunctionDef)
    ]
    return {function.name for function in functions if function.decorator_list}


def _steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text())["jobs"]
    assert jobs
    assert all({"runs-on", "timeout-minutes", "steps"} <= set(job) for job in jobs.values())
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_of_workflows_exist(path: Path, sessions: set[str]) -> None:
    commands = [step["run"] for step in _steps(path) if "run" in step]
    assert commands
    for command in commands:
        for name in re.findall(r"nox -s (\w+)", command):
            assert name in sessions, command
        for file in re.findall(r"(?:^|source |python )((?:\.ci|setup|tests)[\w./]*)", command):
            assert (ROOT / file).is_file(), command


def test_the_matrix_covers_the_supported_versions() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text()
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert set(classifiers) <= set(re.findall(r'"(3\.\d+)"', text))
