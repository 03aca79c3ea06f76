"""``validate --watch`` on many parts, with restarts: nothing is lost, nothing is validated twice, memory stays flat."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import Command, ForkServer
from running import WorkOf
from tries import tries

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

PARTS = tries(60, 2000)
STEP = max(PARTS // 40, 5)  # photographs that arrive at a time
STEPS = PARTS // STEP
RESTARTS = {STEPS // 6: signal.SIGINT, STEPS // 3: signal.SIGKILL, STEPS // 2: signal.SIGTERM}  # by the step
PLOTS = "plot_anomaly_heatmap plot_distributions plot_mse_per_pixel plot_abs_loss_per_pixel plot_latent_space"
SETTINGS = " ".join(
    [
        *(f"--set plotting.{name}=False" for name in PLOTS.split()),
        *(f"--set preprocessing.alignment.{name}=False" for name in ("draw_matches", "save_metrics", "save_overlays")),
    ]
)
DONE = (0, 3)  # 3: some of the small photographs cannot be aligned
GROWTH = tries(40, 8)  # megabytes by which the memory for the second half of the parts may exceed that for the first
STORED = 0.02  # megabytes per part: its verdict, its row and its entry in the report are in memory


def write_photograph(path: Path, sources: list[Path], index: int) -> None:
    """Write a photograph that no other one equals, complete at once."""
    image = cv2.imread(str(sources[index % len(sources)]))
    noise = np.random.default_rng(index).normal(0, 1, image.shape)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(cv2.imencode(".jpg", np.clip(image + noise, 0, 255).astype(np.uint8))[1].tobytes())
    temporary.replace(path)


def memory(command: Command) -> float:
    """Megabytes of memory of a process."""
    lines = Path(f"/proc/{command.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def verdicts(command: Command) -> int:
    """How many verdicts a watch has printed; it names parts that could not be processed once more at its end."""
    return len(re.findall(r"^(?:pass|fail|error) +front/part_", command.output, re.MULTILINE))


def test_a_watch_over_many_parts(server: ForkServer, work_of: WorkOf, photographs: Path, tmp_path: Path) -> None:
    folder, new = tmp_path / "work", tmp_path / "new/front"
    shutil.copytree(work_of("train").end, folder)
    new.mkdir(parents=True)
    sources = sorted((photographs / "production/Part/front").iterdir())
    line, journal = f"validate -i {new.parent} {SETTINGS}", folder / "validate/Part/front/metadata/judged.journal"

    def wait_for(count: int) -> None:
        end = time.monotonic() + 300
        while not journal.is_file() or journal.read_bytes().count(b"\n") < count:
            assert watch.is_running(), watch.output
            assert time.monotonic() < end, watch.output
            time.sleep(0.05)

    validated = 0
    watch = server.start(folder, f"{line} --watch")
    used: list[float] = []
    for step in range(1, STEPS + 1):
        count = step * STEP
        for index in range(count - STEP, count):
            write_photograph(new / f"part_{index:05d}.jpg", sources, index)
        restart = RESTARTS.get(step)
        wait_for(count - STEP // 2 if restart else count)
        used.append(memory(watch))
        if restart:
            watch.kill(restart)
            assert watch.wait() in ((-signal.SIGKILL,) if restart == signal.SIGKILL else DONE), watch.output
            watch.wait_for_group()
            validated += verdicts(watch)
            watch = server.start(folder, f"{line} --watch")
            wait_for(count)
    watch.kill(signal.SIGINT)
    assert watch.wait() in DONE, watch.output
    assert "Traceback" not in watch.output
    validated += verdicts(watch)
    # A killed run loses the verdicts that are not yet in its journal, and may not have said those that just got there.
    assert abs(validated - PARTS) <= 16

    one = tmp_path / "one"
    shutil.copytree(work_of("train").end, one)
    assert server.start(one, line).wait() in DONE
    table = Path("validate/Part/results.csv")
    assert (folder / table).read_bytes() == (one / table).read_bytes()
    assert (folder / table).read_bytes().count(b"\n") == PARTS + 1

    last = used[STEPS // 2 + 1 :]  # since the last restart
    first_half, second_half = last[: len(last) // 2], last[len(last) // 2 :]
    growth = max(second_half) - max(first_half)
    print(f"memory: {max(first_half):.0f} MB, then {growth:+.1f} MB for {STEP * len(second_half)} parts")  # noqa: T201
    assert growth <= GROWTH + STORED * STEP * len(second_half)
