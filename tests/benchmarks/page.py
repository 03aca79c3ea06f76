"""Functions of all benchmarks: measure a command, and write a section of a page in ``docs``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"

WITHOUT_FIGURES = (  # settings of a run that writes as few figures as possible
    *("preprocessing.draw_matches=False", "preprocessing.save_metrics=False", "preprocessing.save_overlays=False"),
    *(f"plotting.plot_{name}=False" for name in ("loss", "accuracy", "anomaly_heatmap", "distributions")),
)


def write_configs(work: Path, component: str) -> None:
    """Write the default configuration to ``work/configs``, with the name of the component, and no planted defects."""
    defaults = ROOT / "configs"
    (work / "configs").mkdir(parents=True)
    settings = (defaults / "parameters.yaml").read_text().replace("sensitivity: auto", "sensitivity: off")
    (work / "configs" / "parameters.yaml").write_text(settings)
    lines = (defaults / "paths.yaml").read_text().splitlines()
    edited = [f"  component: {component}" if line.startswith("  component:") else line for line in lines]
    (work / "configs" / "paths.yaml").write_text("\n".join(edited) + "\n")


def measure(arguments: list[str], work: Path) -> tuple[float, float, float]:
    """Run ``pixal`` in a process of its own, in the folder ``work``.

    Returns:
        Wall time in seconds, CPU time in seconds, and peak memory in GB.

    Raises:
        SystemExit: The command failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pixal.cli", *arguments], cwd=work)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"pixal {' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak_memory(usage.ru_maxrss)


def peak_memory(max_rss: int) -> float:
    """Return ``ru_maxrss`` in GB. It is in bytes on macOS and in KB elsewhere."""
    return max_rss / (2**30 if sys.platform == "darwin" else 2**20)


def write_section(name: str, lines: list[str], note: str = "", page: Path = PAGE) -> None:
    """Replace a section of a page by ``lines``, after a line with date, machine, versions and ``note``.

    The section is between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.
    """
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "opencv-python-headless", "keras"))
    machine = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, Python {platform.python_version()}"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    text = "\n".join([begin, f"{machine}, {packages}. {note}".rstrip(), "", *lines, end])
    page.write_text(before + text + rest.split(end)[1])
