"""What the benchmark scripts share: measuring a command, and writing a section of a page in ``docs``."""

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


def write_configs(work: Path, component: str) -> None:
    """The shipped configuration in ``work/configs``, with the component's name."""
    defaults = ROOT / "configs"
    (work / "configs").mkdir(parents=True)
    (work / "configs" / "parameters.yaml").write_text((defaults / "parameters.yaml").read_text())
    lines = (defaults / "paths.yaml").read_text().splitlines()
    edited = [f"  component: {component}" if line.startswith("  component:") else line for line in lines]
    (work / "configs" / "paths.yaml").write_text("\n".join(edited) + "\n")


def measure(arguments: list[str], work: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and peak memory in GB of one command."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pixal.cli", *arguments], cwd=work)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"pixal {' '.join(arguments)}: exit status {os.waitstatus_to_exitcode(status)}")
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def write_section(name: str, lines: list[str], note: str = "", page: Path = PAGE) -> None:
    """Put ``lines`` between the page's marks of section ``name``, under a line that says when and with what."""
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "opencv-python-headless", "keras"))
    machine = f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, Python {platform.python_version()}"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text().split(begin)
    text = "\n".join([begin, f"{machine}, {libraries}. {note}".rstrip(), "", *lines, end])
    page.write_text(before + text + rest.split(end)[1])
