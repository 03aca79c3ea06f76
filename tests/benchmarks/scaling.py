"""Measure what a part costs where ``pixal validate`` runs on a Dask cluster, and simulate more workers.

    python tests/benchmarks/scaling.py WORK PHOTOGRAPHS

WORK is a working directory with a trained component, PHOTOGRAPHS a folder of photographs of one of its types. Scheduler
and workers are processes in folders of their own. The CPU time of each is measured, because other programs may use the
machine; so is the curve of real workers that sleep instead of working, which shows where the command and the scheduler
are the limit. Writes the sections of docs/scaling.md and its figure.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from cluster_simulation import GROUP, Costs, simulate
from numpy.typing import NDArray
from page import ROOT, write_section

from pixal.dask_cluster import Cluster
from pixal.io.growing import GrowingRows

_PAGE = ROOT / "docs" / "scaling.md"
_FIGURE = ROOT / "docs" / "images" / "scaling.png"
_FEW, _MANY = 8, 48  # parts of two runs, whose difference has no start-up
_SLEEP = 0.25  # seconds per part of a worker that sleeps
_SLEEPERS = (1, 2, 4, 8, 16, 32)
_ROUNDS = 6  # groups per worker that sleeps; ``Cluster.map`` sends them in bundles of 3
_RUNS = 2  # of the workers that sleep
_WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_BANDWIDTH = 1e9  # bytes per second of an NFS server with 10 Gbit/s
_DAY = 86_400


def main() -> None:
    """Measure, simulate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("photographs", type=Path)
    options = parser.parse_args()
    costs, shape, rows = _measure_parts(options.work, sorted(options.photographs.absolute().iterdir()))
    runs = [_measure_sleepers(int(np.prod(shape))) for _ in range(_RUNS)]
    sleeping = [max(row, key=lambda found: found[1]) for row in zip(*runs, strict=True)]  # other programs only slow it
    # Of an idle scheduler most of the CPU time is that of its clock: what a part costs shows where many are done.
    scheduler = min(row[3] for run in runs for row in run)
    rows.insert(4, f"| scheduler | {scheduler:.4f} |")
    _write(replace(costs, scheduler=GROUP * scheduler), rows, sleeping, shape)


@contextmanager
def _cluster(folder: Path, workers: int, threads: int = 1) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and workers; yields the address, and the process ids, that of the scheduler first."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    commands = [["scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]]
    commands += [["worker", address, "--nthreads", str(threads), "--no-nanny"]] * workers
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    processes = []
    for name, *rest in commands:
        own = Path(tempfile.mkdtemp(dir=folder))
        rest += ["--no-dashboard", *(["--local-directory", str(own)] if name == "worker" else [])]
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *rest]
        with (own / "log").open("wb") as log:
            processes.append(subprocess.Popen(command, cwd=own, env=environment, stdout=log, stderr=log))
    try:
        yield address, [process.pid for process in processes]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _cpu(pid: int) -> float:
    """CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _measure_parts(source: Path, photographs: list[Path]) -> tuple[Costs, tuple[int, ...], list[str]]:
    """What a part costs in each process."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch, "work")
        shutil.copytree(source, work, ignore=shutil.ignore_patterns("validate", "mlruns", "mlflow*", "inspection"))
        for count in (_FEW, _MANY):
            folder = work / f"batch{count}" / photographs[0].parent.name
            folder.mkdir(parents=True)
            for number, path in enumerate(itertools.islice(itertools.cycle(photographs), count)):
                shutil.copy(path, folder / f"part_{number:04d}{path.suffix}")
        with _cluster(Path(scratch), 1) as (address, pids):
            for count in (4, _FEW, _MANY):  # the first one starts everything up
                if count == 4:
                    shutil.copytree(work / f"batch{_FEW}", work / "batch4")
                    for path in sorted((work / "batch4").rglob("part_*"))[4:]:
                        path.unlink()
                found[count] = _validate(work, count, address, pids)
        results = next(path for path in (work / "validate").iterdir() if path.is_dir())
        read = sum(path.stat().st_size for path in (work / f"batch{_MANY}").rglob("part_*")) / _MANY
        tree = [path for path in results.rglob("*") if path.is_file() and "batches" not in path.parts]
        by_worker = [
            path for path in tree if path.suffix in (".png", ".jpg", ".tiff") and path.parent.name != "figures"
        ]
        by_worker += [path for path in tree if path.name.startswith("anomaly_overlay_")]
        written = sum(path.stat().st_size for path in by_worker) / _MANY
        with np.load(next(path for path in tree if path.name == "out.npz")) as file:
            shape = tuple(int(size) for size in file["shape"])
    few, many = found[_FEW], found[_MANY]
    command, _, worker, wall = ((b - a) / (_MANY - _FEW) for a, b in zip(few, many, strict=True))
    rows = [
        "| Process | CPU seconds per part |",
        "|---|---:|",
        f"| worker: prepare, score, draw | {worker:.3f} |",
        f"| command: verdicts, inputs, table, report, figures of the batch | {command:.3f} |",
        "",
        f"A worker reads {read / 1e6:.2f} MB per part and writes {written / 1e6:.2f} MB; the model input that it sends "
        f"has {4 * np.prod(shape) / 1e6:.2f} MB. With one worker {1 / wall:.2f} parts per second were done on this "
        f"machine, on which the worker got {worker / wall:.0%} of a processor.",
    ]
    return Costs(worker, command, np.nan, read, written, _BANDWIDTH), shape, rows


def _validate(work: Path, count: int, address: str, pids: list[int]) -> tuple[float, float, float, float]:
    """CPU seconds of command, scheduler and workers, and wall seconds, of a batch."""
    before = [_cpu(pid) for pid in pids]
    options = ["--set", "execution.backend=dask", "--set", f"execution.scheduler={address}"]
    command = [sys.executable, "-m", "pixal", "validate", "-q", "-i", f"batch{count}", "--batch", f"n{count}", *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PIXAL_TRACKING": "off"}
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=work, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):
        raise SystemExit(f"{' '.join(command)}: exit status {os.waitstatus_to_exitcode(status)}")
    scheduler, *workers = (_cpu(pid) - earlier for pid, earlier in zip(pids, before, strict=True))
    return usage.ru_utime + usage.ru_stime, scheduler, sum(workers), time.perf_counter() - start


def sleep_and_answer(numbers: list[int], *, values: int, seconds: float) -> list[NDArray[np.float32]]:
    """What a worker does for the curve: nothing, for some time, and an answer as large as that of real parts."""
    time.sleep(seconds * len(numbers))
    return [np.full(values, number, np.float32) for number in numbers]


def _measure_sleepers(values: int) -> list[tuple[int, float, float, float]]:
    """Workers, parts per second, and the CPU seconds per part of command and scheduler, with workers that sleep."""
    found = []
    for workers in _SLEEPERS:
        with tempfile.TemporaryDirectory() as scratch, _cluster(Path(scratch), 1, workers) as (address, pids):
            cluster = Cluster(address)
            work = partial(sleep_and_answer, values=values, seconds=_SLEEP)
            for _ in cluster.map(work, [[0]] * workers, workers):  # the worker starts up
                pass
            groups = [[group] * GROUP for group in range(_ROUNDS * workers)]
            rows = GrowingRows(Path(scratch, "rows"), values)
            rows.start()
            own, other, start = time.process_time(), _cpu(pids[0]), time.perf_counter()
            for answer in cluster.map(work, groups, workers):
                for image in answer:
                    rows.append(image)
            parts, wall = GROUP * len(groups), time.perf_counter() - start
            costs = ((time.process_time() - own) / parts, (_cpu(pids[0]) - other) / parts)
            found.append((workers, parts / wall, *costs))
            cluster.close()
    return found


def _write(
    costs: Costs, rows: list[str], sleeping: list[tuple[int, float, float, float]], shape: tuple[int, ...]
) -> None:
    load = f"Load of the machine: {os.getloadavg()[0]:.1f}."
    write_section(
        "costs", rows, f"Photographs of 1920x1080 pixels, inputs of {'x'.join(map(str, shape))}. {load}", _PAGE
    )
    # The command got only a share of a processor: as much as explains the speed with the most workers.
    command = float(np.median([row[2] for row in sleeping]))
    most, speed, *_ = sleeping[-1]

    def simulated_with(share: float, workers: int) -> float:
        stand_in = Costs(_SLEEP, command / share, costs.scheduler, 0, 0, _BANDWIDTH)
        return simulate(stand_in, workers, _ROUNDS // 3 * workers, size=3 * GROUP, whole=True)

    share = min(np.geomspace(0.05, 1, 60), key=lambda value: abs(simulated_with(value, most) - speed))
    lines = ["| Workers that sleep | parts per second | simulated |", "|---:|---:|---:|"]
    simulated = [simulated_with(float(share), workers) for workers, *_ in sleeping]
    lines += [f"| {row[0]} | {row[1]:.1f} | {value:.1f} |" for row, value in zip(sleeping, simulated, strict=True)]
    note = f"The command took {1000 * command:.1f} ms of CPU time per part. With the most workers it got {share:.0%}"
    note = f"{note} of a processor. {load}"
    write_section("sleepers", lines, note, _PAGE)
    speeds = [simulate(costs, workers, max(400, 8 * workers)) for workers in _WORKERS]
    lines = ["| Workers | parts per second | parts per day | limit |", "|---:|---:|---:|---|"]
    for workers, speed in zip(_WORKERS, speeds, strict=True):
        limits = costs.limits(workers)
        lines.append(
            f"| {workers} | {speed:.1f} | {speed * _DAY:,.0f} | {min(limits, key=lambda name: limits[name])} |"
        )
    alone = {name: value for name, value in costs.limits(1).items() if name != "workers"}
    text = ", ".join(f"{name} {value:,.0f}" for name, value in sorted(alone.items(), key=lambda item: item[1]))
    write_section("simulation", [*lines, "", f"By itself each stage could do, in parts per second: {text}."], "", _PAGE)
    _draw(costs, speeds, sleeping, simulated)


def _draw(
    costs: Costs, speeds: list[float], sleeping: list[tuple[int, float, float, float]], simulated: list[float]
) -> None:
    from matplotlib.figure import Figure

    from pixal.io.images import write_figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog([row[0] for row in sleeping], [row[1] for row in sleeping], "o", label="measured")
    left.loglog([row[0] for row in sleeping], simulated, "-", label="simulated")
    left.set_title(f"Workers that sleep {_SLEEP} s per part")
    right.loglog(_WORKERS, speeds, "-", label="simulated")
    for name, value in costs.limits(1).items():
        if name != "workers":
            right.axhline(value, linestyle=":", color="0.4")
            right.annotate(name, (1, value), va="bottom", fontsize=9)
    right.axhline(1e6 / _DAY, color="tab:orange", linewidth=1)
    right.annotate("a million parts a day", (1000, 1e6 / _DAY), ha="right", va="bottom", fontsize=9, color="tab:orange")
    right.set_title("validate, photographs of 1920x1080 pixels")
    for axes in (left, right):
        axes.set(xlabel="workers", ylabel="parts per second")
        axes.legend(loc="lower right")
        axes.grid(visible=True, which="both", alpha=0.2)
    write_figure(_FIGURE, figure, dpi=90)


if __name__ == "__main__":
    main()
