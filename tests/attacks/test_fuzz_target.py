"""The fuzz target of the readers runs, where atheris is installed; ``test_fuzz_corpus.py`` needs no atheris."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tries import tries

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("reader", ["journal", "image"])
def test_readers_are_fuzzed_without_a_fault(reader: str) -> None:
    seconds = tries(3, 60)
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests/fuzz/fuzz_readers.py"), reader, str(seconds)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=200 + 2 * seconds,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr[-3000:]
    executions = re.search(r"number_of_executed_units: (\d+)", run.stderr)
    assert executions is not None, run.stderr[-3000:]
    assert int(executions[1]) > 10
