"""Three rounds of learning from marks: validate, mark by truth, accept, train --candidate, promote.

The parts vary: a share of them has one of three harmless prints, of which the few training photographs show none. Each
round has a new batch, which is marked by its truth. After each round the model in use is measured on parts that are
never marked. Run: ``python tests/benchmarks/learning_rounds.py [FOLDER]``.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import pixal
from pixal.config import Paths, load_config
from pixal.config.loading import DEFAULTS
from pixal.errors import InputError
from pixal.synthetic import write_batch
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.validation.intervals import rate_interval

TYPE = "front"
_VARIED = 0.4  # share of the production parts
# Harmless variations: place and half size as shares of the frame, and colour (BGR).
_VARIATIONS = (
    ((0.43, 0.50), (0.020, 0.025), (205, 215, 235)),
    ((0.57, 0.50), (0.012, 0.018), (60, 60, 70)),
    ((0.36, 0.47), (0.010, 0.020), (70, 160, 230)),
)
_SETTINGS = (
    *("model_training.model=gaussian", "validation.sensitivity=off", "validation.false_alarm_rate=0.05"),
    *("preprocessing.draw_matches=False", "preprocessing.save_metrics=False", "preprocessing.save_overlays=False"),
    *("plotting.plot_anomaly_heatmap=False", "plotting.plot_distributions=False", "plotting.plot_latent_space=False"),
)


def settings(root: Path, *overrides: str) -> PhotographConfig:
    """The settings of the rounds, with folders in ``root``."""
    config = photograph_config(load_config(DEFAULTS, [*_SETTINGS, *overrides]))
    entries = {
        name: {"component": "Part", "base": str(root / folder)}
        for name, folder in (("component_model_path", "out"), ("component_validate_path", "validate"))
    }
    return PhotographConfig(config.parameters, Paths(entries), root)


def render(folder: Path, *, train: int, good: int, bad: int, seed: int, varied: float, size: tuple[int, int]) -> None:
    """Render parts, and draw harmless variations on a share ``varied`` of the production photographs."""
    write_batch(
        folder,
        component="Part",
        types=(TYPE,),
        train=train,
        good=good,
        bad=bad,
        seed=seed,
        frame_size=size,
        severity=0.6,
    )
    rng = np.random.default_rng(seed)
    poses = json.loads((folder / "truth" / TYPE / "poses.json").read_text())
    for path in sorted((folder / "production/Part" / TYPE).iterdir()):
        if rng.random() < varied:
            photo = cv2.imread(str(path))
            assert photo is not None
            _draw_variation(photo, np.array(poses[path.stem]), size, rng)
            cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])


def _draw_variation(photo: Any, pose: Any, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draw one of the variations on a photograph, with a little spread of its place."""
    place, half, colour = _VARIATIONS[rng.integers(len(_VARIATIONS))]
    centre = np.array(size) * (np.array(place) + rng.normal(0, 0.003, 2))
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = (centre + signs * np.array(half) * np.array(size)).astype(np.float64)
    moved = cv2.perspectiveTransform(corners[None], pose)[0]
    layer = photo.copy()
    cv2.fillConvexPoly(layer, np.round(moved * 8).astype(np.int32), colour, cv2.LINE_AA, 3)
    photo[:] = cv2.addWeighted(layer, 0.6, photo, 0.4, 0)


def write_marks(batch: Path, folder: Path, path: Path) -> dict[str, int]:
    """Mark all verdicts by the truth; return the number of each mark."""
    labels = {f"{row['name']}.jpg": int(row["label"]) for row in _read(folder / "truth" / TYPE / "labels.csv")}
    counts = {"false alarm": 0, "missed": 0, "confirmed": 0}
    rows = []
    for row in _read(batch / "results.csv"):
        failed, defective = row["verdict"] == "fail", labels[row["image"]] == 1
        if row["verdict"] == "error":
            continue
        mark = "confirmed" if failed == defective else "false alarm" if failed else "missed"
        box = _box(folder, row["image"]) if mark == "missed" else ("", "", "", "")
        counts[mark] += 1
        rows.append([TYPE, row["image"], mark, *box])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["type", "image", "mark", "x", "y", "width", "height"], *rows])
    return counts


def measure(config: PhotographConfig, test: Path) -> dict[str, tuple[int, int]]:
    """False alarms and misses on parts that are never marked: how many, and of how many."""
    batch = pixal.validate(test / "production/Part", batch="never marked", config=config, quiet=True)
    labels = {f"{row['name']}.jpg": int(row["label"]) for row in _read(test / "truth" / TYPE / "labels.csv")}
    good = [part for part in batch.parts if labels[part.image] == 0 and part.verdict != "error"]
    bad = [part for part in batch.parts if labels[part.image] == 1 and part.verdict != "error"]
    return {
        "false alarms": (sum(part.verdict == "fail" for part in good), len(good)),
        "missed": (sum(part.verdict == "pass" for part in bad), len(bad)),
    }


def run_rounds(
    root: Path, *, rounds: int, train: int, good: int, bad: int, test: int, size: tuple[int, int], **planted: Any
) -> list[dict[str, Any]]:
    """Run the rounds in an empty folder; return the measures before the first one and after each one."""
    config = settings(root)
    render(root / "first", train=train, good=good, bad=bad, seed=1, varied=_VARIED, size=size)
    render(root / "test", train=0, good=test, bad=test, seed=99, varied=_VARIED, size=size)
    pixal.preprocess(root / "first/train/Part", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    results: list[dict[str, Any]] = [{"round": 0, **measure(config, root / "test")}]
    for number in range(1, rounds + 1):
        folder = root / f"lot{number}"
        render(folder, train=0, good=good, bad=bad, seed=10 + number, varied=_VARIED, size=size)
        batch = pixal.validate(folder / "production/Part", batch=f"lot{number}", config=config, quiet=True)
        marks = write_marks(Path(batch.folder), folder, root / "marks.csv")
        pixal.accept(root / "marks.csv", config=config)
        entry: dict[str, Any] = {"round": number, "marks": marks}
        try:
            pixal.train(candidate=True, config=config, quiet=True)
            entry["trial"] = pixal.promote([TYPE], config=config, quiet=True, **planted).summary()
        except InputError as error:
            entry["trial"] = str(error)
        results.append(entry | measure(config, root / "test"))
    return results


def _box(folder: Path, image: str) -> tuple[int, int, int, int]:
    mask = cv2.imread(str(folder / "truth" / TYPE / "masks" / f"{Path(image).stem}.png"), cv2.IMREAD_GRAYSCALE)
    x, y, width, height = cv2.boundingRect(mask)  # type: ignore[arg-type]
    return x, y, width, height


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cell(count: int, total: int) -> str:
    low, high = rate_interval(count, total)
    return f"{count} of {total} ({100 * low:.0f} to {100 * high:.0f} %)"


def table(results: list[dict[str, Any]]) -> list[str]:
    """The rounds as lines of Markdown."""
    lines = [
        "| round | false alarms, missed, confirmed | candidate | false alarms, never marked | missed, never marked |",
        "|---:|---|---|---|---|",
    ]
    for result in results:
        marks = ", ".join(map(str, result["marks"].values())) if "marks" in result else ""
        outcome = "" if "trial" not in result else "promoted" if "is in use now" in result["trial"] else "refused"
        cells = (_cell(*result["false alarms"]), _cell(*result["missed"]))
        lines.append(f"| {result['round']} | {marks} | {outcome} | {cells[0]} | {cells[1]} |")
    return lines


def main() -> None:
    """Run three rounds, print what each candidate was judged by, and write the table."""
    from page import write_section

    os.environ.setdefault("PIXAL_TRACKING", "off")
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="learning_rounds_"))
    results = run_rounds(root, rounds=3, train=10, good=16, bad=8, test=60, size=(480, 270), defects=6)
    for result in results[1:]:
        print(f"round {result['round']}: {result['trial']}")  # noqa: T201
    note = "480x270 pixels, gaussian, 10 good images for training, false-alarm rate 0.05, 16 good and 8 defective parts"
    write_section("learning rounds", table(results), f"{note} per round.")


if __name__ == "__main__":
    main()
