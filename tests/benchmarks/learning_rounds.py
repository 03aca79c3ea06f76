"""Three rounds of learning from marks: validate, mark by truth, accept, train --candidate, promote.

The parts vary: a share of them has one of three harmless prints, of which the few training photographs show none. Each
round has a new batch, which is marked by its truth. After each round the model in use is measured on parts that are
never marked.

A second table is about ten marked defects of one kind: the faint stain, at one place. It is measured on new parts
before and after they are marked, and so is the same stain at random places, of which none was marked.
Run: ``python tests/benchmarks/learning_rounds.py [FOLDER]``.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import pixal
from pixal.config import Paths, load_config
from pixal.config.loading import DEFAULTS
from pixal.defects import PlantedDefect, plant
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
# A fault that recurs: its places as shares of the frame, the spread of the place in pixels at 480x270, and its size.
_FAULTS = ((0.50, 0.42), (0.40, 0.55), (0.60, 0.52))
_SHARES = (0.5, 0.3, 0.2)  # of the faults, at each place
_FAULT_SPREAD, _FAULT_SIZE, _FAULT_CONTRAST = 1.5, 7.0, 0.10
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


def plant_faults(
    folder: Path, count: int, seed: int, size: tuple[int, int], places: Sequence[tuple[float, float]] | None = _FAULTS
) -> None:
    """Make ``count`` good production parts defective: a faint stain at one of the places; None: anywhere."""
    truth, rng = folder / "truth" / TYPE, np.random.default_rng([seed, 1])
    rows = _read(truth / "labels.csv")
    poses = json.loads((truth / "poses.json").read_text())
    good = [row for row in rows if row["label"] == "0"]
    for row in rng.permutation(np.array(good, object))[:count]:
        path = folder / "production/Part" / TYPE / f"{row['name']}.jpg"
        photo, fore = cv2.imread(str(path)), cv2.imread(str(truth / "foreground" / f"{row['name']}.png"), 0)
        assert photo is not None
        assert fore is not None
        pose, unit = np.array(poses[row["name"]]), size[0] / 480
        if places is None:
            inside = np.argwhere(cv2.erode(fore, np.ones((2 * round(9 * unit) + 1,) * 2, np.uint8)) > 0)
            x, y = inside[rng.integers(len(inside))][::-1]
            at = cv2.perspectiveTransform(np.array([[[x, y]]], np.float64), np.linalg.inv(pose))[0, 0]
        else:
            shares = np.array(_SHARES[: len(places)])
            place = np.array(places[rng.choice(len(places), p=shares / shares.sum())]) * size
            at = place + rng.normal(0, _FAULT_SPREAD * unit, 2)
        turn, shape = float(rng.uniform(0, 360)), int(rng.integers(2**32))
        defect = PlantedDefect("stain", _FAULT_SIZE * unit, -_FAULT_CONTRAST, (float(at[0]), float(at[1])), turn, shape)
        planted = plant(photo, defect, np.linalg.inv(pose), fore > 0)
        cv2.imwrite(str(path), planted.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(truth / "masks" / f"{row['name']}.png"), planted.mask.astype(np.uint8) * 255)
        row.update(label="1", kind="recurring" if places else "elsewhere")
    with (truth / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "label", "kind"])
        writer.writeheader()
        writer.writerows(rows)


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
    """False alarms and misses on parts that are never marked: how many, and of how many; misses also by kind."""
    batch = pixal.validate(test / "production/Part", batch="never marked", config=config, quiet=True)
    kinds = {f"{row['name']}.jpg": row["kind"] for row in _read(test / "truth" / TYPE / "labels.csv")}
    judged = [(kinds[part.image], part.verdict == "fail") for part in batch.parts if part.verdict != "error"]
    good = [failed for kind, failed in judged if kind == "good"]
    bad = [failed for kind, failed in judged if kind != "good"]
    by_kind = {
        kind: [failed for other, failed in judged if other == kind]
        for kind in sorted({kind for kind, _ in judged} - {"good"})
    }
    return {
        "false alarms": (sum(good), len(good)),
        "missed": (len(bad) - sum(bad), len(bad)),
        **{kind: (len(of_kind) - sum(of_kind), len(of_kind)) for kind, of_kind in by_kind.items()},
    }


def run_rounds(
    root: Path,
    *,
    rounds: int,
    train: int,
    good: int,
    bad: int,
    test: int,
    size: tuple[int, int],
    seed: int = 0,
    faults: int = 0,
    **planted: Any,
) -> list[dict[str, Any]]:
    """Run the rounds in an empty folder; return the measures before the first one and after each one.

    With ``faults``, that many parts of each round have a stain that recurs at three places, and so has half of the
    defective parts that are never marked.
    """
    config = settings(root)
    half = test // 2 if faults else 0
    render(root / "first", train=train, good=0, bad=1, seed=seed + 1, varied=0, size=size)
    render(root / "test", train=0, good=test + half, bad=test - half, seed=seed + 99, varied=_VARIED, size=size)
    plant_faults(root / "test", half, seed + 99, size)
    pixal.preprocess(root / "first/train/Part", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    results: list[dict[str, Any]] = [{"round": 0, **measure(config, root / "test")}]
    for number in range(1, rounds + 1):
        folder = root / f"lot{number}"
        render(folder, train=0, good=good + faults, bad=bad, seed=seed + 10 + number, varied=_VARIED, size=size)
        plant_faults(folder, faults, seed + 10 + number, size)
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


def run_marked(
    root: Path, *, train: int, marked: int, test: int, size: tuple[int, int], seed: int, overrides: Sequence[str] = ()
) -> list[dict[str, tuple[int, int]]]:
    """Mark ``marked`` defects that recur at one place; return the measures on new parts before and after.

    A third of the ``3 * test`` new parts is good, a third has the stain at that place, a third has it elsewhere.
    """
    config, place = settings(root, *overrides), _FAULTS[:1]
    render(root / "first", train=train, good=0, bad=1, seed=seed + 1, varied=0, size=size)
    render(root / "lot", train=0, good=marked + 2, bad=1, seed=seed + 2, varied=0, size=size)
    plant_faults(root / "lot", marked, seed + 2, size, place)
    render(root / "test", train=0, good=3 * test, bad=1, seed=seed + 3, varied=0, size=size)
    plant_faults(root / "test", test, seed + 3, size, place)
    plant_faults(root / "test", test, seed + 4, size, None)
    pixal.preprocess(root / "first/train/Part", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    before = measure(config, root / "test")
    batch = pixal.validate(root / "lot/production/Part", batch="lot", config=config, quiet=True)
    write_marks(Path(batch.folder), root / "lot", root / "marks.csv")
    pixal.accept(root / "marks.csv", config=config)
    pixal.train(candidate=True, config=config, quiet=True)
    pixal.promote([TYPE], config=config, quiet=True, force=True, kinds=["scratch"], sizes=[3.0], defects=4)
    return [before, measure(config, root / "test")]


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


def marked_table(family: str, measured: list[dict[str, tuple[int, int]]]) -> list[str]:
    """One line of Markdown: the measures before and after, summed over the seeds."""
    cells = []
    for kind in ("recurring", "elsewhere", "false alarms"):
        for when in (0, 1):
            pairs = [each[kind] for each in measured[when::2]]
            cells.append(_cell(sum(count for count, _ in pairs), sum(total for _, total in pairs)))
    return [f"| {family} | {' | '.join(cells)} |"]


def main() -> None:
    """Run three rounds, print what each candidate was judged by, and write the tables."""
    from page import write_section

    os.environ.setdefault("PIXAL_TRACKING", "off")
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="learning_rounds_"))
    size = (480, 270)
    planted: dict[str, Any] = {"kinds": ["scratch"], "sizes": [3.0], "defects": 4}
    results = run_rounds(root / "rounds", rounds=3, train=10, good=16, bad=8, test=60, size=size, **planted)
    for result in results[1:]:
        print(f"round {result['round']}: {result['trial']}")  # noqa: T201
    note = "480x270 pixels, gaussian, 10 good images for training, false-alarm rate 0.05"
    write_section("learning rounds", table(results), f"{note}, 16 good and 8 defective parts per round.")
    lines = [
        "| model | missed at the place, before | after | missed elsewhere, before | after | "
        "false alarms, before | after |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, seeds in (("gaussian", (1000, 3000)), ("combined", (2000,))):
        overrides = [f"model_training.model={family}"]
        measured = []
        for seed in seeds:
            folder = root / f"{family}{seed}"
            measured += run_marked(folder, train=16, marked=10, test=20, size=size, seed=seed, overrides=overrides)
        lines += marked_table(family, measured)
    write_section("ten marked defects", lines, "480x270 pixels, 16 good images for training, false-alarm rate 0.05.")


if __name__ == "__main__":
    main()
