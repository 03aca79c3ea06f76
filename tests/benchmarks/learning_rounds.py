"""Three rounds of learning from marks: validate, mark by truth, accept, train --candidate, compare, promote.

Production changes: each lot has one harmless print more than the lot before, and a stain that recurs at one more place.
All parts of a lot are marked by their truth. After each round the model in use is measured on parts that are never
marked and have all prints and stains from the beginning. Several seeds are added up.

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
from pixal.report.document import PartResult
from pixal.synthetic import write_batch
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.validation.intervals import rate_interval

TYPE = "front"
# Shares of the parts with each print: one that a lot has first, one that lots had before, and those of the test.
_NEW_PRINT, _OLD_PRINT, _TEST_PRINTS = 0.5, 0.15, (0.2, 0.2, 0.2)
# Harmless variations: place and half size as shares of the frame, and colour (BGR).
_VARIATIONS = (
    ((0.43, 0.50), (0.020, 0.025), (205, 215, 235)),
    ((0.57, 0.50), (0.012, 0.018), (60, 60, 70)),
    ((0.36, 0.47), (0.010, 0.020), (70, 160, 230)),
)
# A fault that recurs: its places as shares of the frame, the spread of the place in pixels at 480x270, and its size.
_FAULTS = ((0.50, 0.42), (0.28, 0.52), (0.68, 0.50))
_FAULT_SPREAD, _FAULT_SIZE, _FAULT_CONTRAST, _FAINT_CONTRAST = 1.5, 7.0, 0.10, 0.10
_NEAR = 2  # pixels by which a region may lie beside a defect that it is about
SEEDS = (0, 1000)
MARKED_SEEDS = (1000, 3000)
ROUNDS: dict[str, Any] = {
    **{"train": 10, "good": 16, "bad": 4, "faults": 8, "test": 40, "size": (400, 225)},
    **{"kinds": ["scratch"], "sizes": [3.0], "defects": 4},  # planted
}
PROMOTED = "is in use now"
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


def render(
    folder: Path, *, train: int, good: int, bad: int, seed: int, varied: Sequence[float], size: tuple[int, int]
) -> None:
    """Render parts, and draw a harmless print on production photographs: each one on its share of them."""
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
        which = int(np.searchsorted(np.cumsum(varied), rng.random()))
        if which < len(varied):
            photo = cv2.imread(str(path))
            assert photo is not None
            _draw_variation(photo, np.array(poses[path.stem]), size, rng, _VARIATIONS[which])
            cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 92])


def plant_faults(
    folder: Path,
    count: int,
    seed: int,
    size: tuple[int, int],
    places: Sequence[tuple[float, float]] | None,
    contrast: float,
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
            place = np.array(places[rng.integers(len(places))]) * size
            at = place + rng.normal(0, _FAULT_SPREAD * unit, 2)
        turn, shape = float(rng.uniform(0, 360)), int(rng.integers(2**32))
        defect = PlantedDefect("stain", _FAULT_SIZE * unit, -contrast, (float(at[0]), float(at[1])), turn, shape)
        planted = plant(photo, defect, np.linalg.inv(pose), fore > 0)
        cv2.imwrite(str(path), planted.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
        cv2.imwrite(str(truth / "masks" / f"{row['name']}.png"), planted.mask.astype(np.uint8) * 255)
        row.update(label="1", kind="recurring" if places else "elsewhere")
    with (truth / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "label", "kind"])
        writer.writeheader()
        writer.writerows(rows)


def _draw_variation(
    photo: Any, pose: Any, size: tuple[int, int], rng: np.random.Generator, variation: tuple[Any, ...]
) -> None:
    """Draw one of the variations on a photograph, with a little spread of its place and strength."""
    place, half, colour = variation
    centre = np.array(size) * (np.array(place) + rng.normal(0, 0.003, 2))
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = (centre + signs * np.array(half) * np.array(size)).astype(np.float64)
    moved = cv2.perspectiveTransform(corners[None], pose)[0]
    layer = photo.copy()
    cv2.fillConvexPoly(layer, np.round(moved * 8).astype(np.int32), colour, cv2.LINE_AA, 3)
    strength = float(rng.uniform(0.3, 0.6))
    photo[:] = cv2.addWeighted(layer, strength, photo, 1 - strength, 0)


def write_marks(batch: Batch, folder: Path, path: Path) -> dict[str, int]:
    """Mark all verdicts by the truth; return the number of each mark.

    A defective part that fails where its defect is not, for example at a harmless print, is marked as missed, with the
    place of its defect: as an inspector does who looks at the regions.
    """
    labels = {f"{row['name']}.jpg": int(row["label"]) for row in _read(folder / "truth" / TYPE / "labels.csv")}
    counts = {"false alarm": 0, "missed": 0, "confirmed": 0}
    rows = []
    for part in batch.parts:
        if part.verdict == "error":
            continue
        if labels[part.image]:
            mark = "confirmed" if _finds(part, folder) else "missed"
        else:
            mark = "false alarm" if part.verdict == "fail" else "confirmed"
        box = _box(folder, part.image) if mark == "missed" else ("", "", "", "")
        counts[mark] += 1
        rows.append([TYPE, part.image, mark, *box])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["type", "image", "mark", "x", "y", "width", "height"], *rows])
    return counts


def measure(config: PhotographConfig, test: Path, *, again: bool = False) -> dict[str, tuple[int, int]]:
    """False alarms and misses on parts that are never marked: how many, and of how many; misses also by kind.

    A defect is found if its part fails and one of the regions is at the defect, not at something harmless.

    With ``again``, the photographs were prepared before, and a candidate has the same preprocessing.
    """
    name: dict[str, Any] = {"batch": "never marked", "config": config, "quiet": True}
    batch = pixal.detect(**name) if again else pixal.validate(test / "production/Part", **name)
    kinds = {f"{row['name']}.jpg": row["kind"] for row in _read(test / "truth" / TYPE / "labels.csv")}
    judged = [
        (kinds[part.image], part.verdict == "fail" if kinds[part.image] == "good" else _finds(part, test))
        for part in batch.parts
        if part.verdict != "error"
    ]
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
    train: int,
    good: int,
    bad: int,
    faults: int,
    test: int,
    size: tuple[int, int],
    seed: int = 0,
    overrides: Sequence[str] = (),
    **planted: Any,
) -> list[dict[str, Any]]:
    """Run three rounds in an empty folder; return the measures before the first one and after each one.

    From each lot on, production has one more harmless print, and a stain that recurs at one more place. Parts that are
    never marked have all of them from the beginning. All parts of a lot are marked, and all good ones are accepted.

    Args:
        root: The folder.
        train: Number of good parts that the first model is trained on.
        good: Number of good parts in each lot.
        bad: Number of parts in each lot with defects of many kinds.
        faults: Number of parts in each lot with the stain.
        test: Number of good parts, and of defective ones, that are never marked. Half of the latter have the stain.
        size: Width and height of the photographs.
        seed: Seed of the parts.
        overrides: Settings.
        **planted: The defects that models are compared on.
    """
    config, half = settings(root, *overrides), test // 2
    render(root / "first", train=train, good=0, bad=1, seed=seed + 1, varied=(), size=size)
    render(root / "test", train=0, good=test + half, bad=test - half, seed=seed + 99, varied=_TEST_PRINTS, size=size)
    plant_faults(root / "test", half, seed + 99, size, _FAULTS, _FAULT_CONTRAST)
    pixal.preprocess(root / "first/train/Part", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    results: list[dict[str, Any]] = [{"round": 0, **measure(config, root / "test")}]
    for number in (1, 2, 3):
        folder = root / f"lot{number}"
        prints = [_OLD_PRINT] * (number - 1) + [_NEW_PRINT]
        render(folder, train=0, good=good + faults, bad=bad, seed=seed + 10 + number, varied=prints, size=size)
        plant_faults(folder, faults, seed + 10 + number, size, _FAULTS[number - 1 : number], _FAULT_CONTRAST)
        batch = pixal.validate(folder / "production/Part", batch=f"lot{number}", config=config, quiet=True)
        marks = write_marks(batch, folder, root / "marks.csv")
        pixal.accept(root / "marks.csv", confirmed=True, config=config)
        entry: dict[str, Any] = {"round": number, "marks": marks}
        try:
            pixal.train(candidate=True, config=config, quiet=True)
            entry["trial"] = pixal.promote([TYPE], config=config, quiet=True, **planted).summary()
        except InputError as error:
            entry["trial"] = str(error)
        results.append(entry | measure(config, root / "test", again=True))
    return results


def run_marked(
    root: Path, *, train: int, marked: int, test: int, size: tuple[int, int], seed: int, overrides: Sequence[str] = ()
) -> list[dict[str, tuple[int, int]]]:
    """Mark ``marked`` defects that recur at one place; return the measures on new parts before and after.

    A third of the ``3 * test`` new parts is good, a third has the stain at that place, a third has it elsewhere.
    """
    config, place = settings(root, *overrides), _FAULTS[:1]
    render(root / "first", train=train, good=0, bad=1, seed=seed + 1, varied=(), size=size)
    render(root / "lot", train=0, good=marked + 2, bad=1, seed=seed + 2, varied=(), size=size)
    plant_faults(root / "lot", marked, seed + 2, size, place, _FAINT_CONTRAST)
    render(root / "test", train=0, good=3 * test, bad=1, seed=seed + 3, varied=(), size=size)
    plant_faults(root / "test", test, seed + 3, size, place, _FAINT_CONTRAST)
    plant_faults(root / "test", test, seed + 4, size, None, _FAINT_CONTRAST)
    pixal.preprocess(root / "first/train/Part", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    before = measure(config, root / "test")
    batch = pixal.validate(root / "lot/production/Part", batch="lot", config=config, quiet=True)
    write_marks(batch, root / "lot", root / "marks.csv")
    pixal.accept(root / "marks.csv", config=config)
    pixal.train(candidate=True, config=config, quiet=True)
    pixal.promote([TYPE], config=config, quiet=True, force=True, kinds=["scratch"], sizes=[3.0], defects=4)
    return [before, measure(config, root / "test", again=True)]


def _finds(part: PartResult, folder: Path) -> bool:
    """Whether a part fails, and a region has a pixel in common with one of its true defects, or nearly so."""
    mask = cv2.imread(str(folder / "truth" / TYPE / "masks" / f"{Path(part.image).stem}.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    near = _NEAR
    return part.verdict == "fail" and any(
        mask[max(0, r.y - near) : r.y + r.height + near, max(0, r.x - near) : r.x + r.width + near].any()
        for r in part.regions
    )


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


def table(runs: Sequence[list[dict[str, Any]]]) -> list[str]:
    """The rounds of all seeds, added up, as lines of Markdown."""
    lines = [
        "| round | marked: false alarm, missed, confirmed | candidates promoted | false alarms, never marked | "
        "missed, never marked | of these, of the stain |",
        "|---:|---|---|---|---|---|",
    ]
    for results in zip(*runs, strict=True):
        marked = [result["marks"].values() for result in results if "marks" in result]
        marks = [sum(values) for values in zip(*marked, strict=True)]
        promoted = [PROMOTED in result["trial"] for result in results if "trial" in result]
        cells = [", ".join(map(str, marks)), f"{sum(promoted)} of {len(promoted)}" if promoted else ""]
        for what in ("false alarms", "missed", "recurring"):
            pairs = [result[what] for result in results]
            cells.append(_cell(sum(count for count, _ in pairs), sum(total for _, total in pairs)))
        lines.append(f"| {results[0]['round']} | {' | '.join(cells)} |")
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
    runs = []
    for seed in SEEDS:
        runs.append(run_rounds(root / f"rounds{seed}", seed=seed, **ROUNDS))
        for result in runs[-1][1:]:
            print(f"seed {seed}, round {result['round']}: {result['trial']}")  # noqa: T201
    note = "400x225 pixels, gaussian, 10 good images for training, false-alarm rate 0.05, 16 good and 12 bad parts"
    write_section("learning rounds", table(runs), f"{note} per round; seeds {', '.join(map(str, SEEDS))}.")
    lines = [
        "| model | missed at the place, before | after | missed elsewhere, before | after | "
        "false alarms, before | after |",
        "|---|---|---|---|---|---|---|",
    ]
    overrides, measured = ["model_training.model=gaussian"], []
    for seed in MARKED_SEEDS:
        folder = root / f"marked{seed}"
        measured += run_marked(folder, train=16, marked=10, test=20, size=size, seed=seed, overrides=overrides)
    lines += marked_table("gaussian", measured)
    seeds = ", ".join(map(str, MARKED_SEEDS))
    note = f"480x270 pixels, 16 good images for training, false-alarm rate 0.05, seeds {seeds}."
    write_section("ten marked defects", lines, note)


if __name__ == "__main__":
    main()
