"""Compare predicted with measured detection: planted defects against those of rendered batches with known truth.

    python tests/benchmarks/sensitivity.py WORK BATCH... [--model gaussian] [--rate 0.01]

A batch holds ``train/COMPONENT/TYPE``, ``production/COMPONENT/TYPE`` and ``truth/TYPE`` (labels.csv, masks), as
``pixal.synthetic`` writes it. Parts with several kinds of defects are left out. Each type is trained on, its
sensitivity is measured, and its production is validated. Then each true defect gets the probability of detection that
planted defects of a similar kind, of its size and contrast, have. Its size and contrast are measured on the photograph.

A cell of the table is a kind and one half of its defects by size. The measured number of failed parts agrees if it is
between the 2.5 % quantile of the binomial distribution of the lower ends of the bands, and the 97.5 % quantile of that
of the upper ends. Results stay in WORK; what is done is skipped.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from page import WITHOUT_FIGURES, write_configs, write_section
from scipy.special import expit, logit
from scipy.stats import binom

_CONTRASTS = (-0.8, -0.4, -0.2, -0.1, 0.1, 0.2, 0.4, 0.8, 1.6)
_SIMILAR = {"scratch": "scratch", "open": "spot", "short": "spot", "splash": "spot", "stain": "stain"}
"""The planted kind that is most like each true kind; no true defect is drawn by the same function."""


@dataclass(frozen=True)
class TrueDefect:
    """A defect of the production: its kind, its size and contrast as measured, and whether its part failed."""

    kind: str
    size: float
    contrast: float
    is_found: bool


def main() -> None:
    """Do the runs that are not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("batches", nargs="+", type=Path, help="folders of batches with truth")
    parser.add_argument("--model", default="gaussian", help="model family")
    parser.add_argument("--rate", type=float, default=0.01, help="false-alarm rate")
    parser.add_argument("--note", default="", help="added to the page")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    batches = [batch.absolute() for batch in options.batches]
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)
    lines = [
        "| batch | kind (planted) | size, px | contrast | parts | found | predicted | interval | within |",
        "|---|---|---|---:|---:|---:|---:|---|---|",
    ]
    agreeing = cells = 0
    for batch in batches:
        defects, curves = _run(batch, options.model, options.rate)
        for kind in sorted({defect.kind for defect in defects}):
            of_kind = sorted((defect for defect in defects if defect.kind == kind), key=lambda defect: defect.size)
            for half in (of_kind[: len(of_kind) // 2], of_kind[len(of_kind) // 2 :]):
                if not half:
                    continue
                line, is_within = _cell(half, curves)
                lines.append(f"| {batch.name} | {line} |")
                cells, agreeing = cells + 1, agreeing + is_within
    lines += ["", f"{agreeing} of {cells} cells agree."]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.page:
        note = f"{options.model}, false-alarm rate {options.rate:g}. {options.note}".strip()
        write_section("sensitivity", lines, note)


def _run(batch: Path, model: str, rate: float) -> tuple[list[TrueDefect], list[dict[str, Any]]]:
    """Train on a batch, measure the sensitivity, and validate its production; return its defects and the curves."""
    import pixal
    from pixal.io.records import read_record

    component = f"{batch.name}_{model}"
    folder = Path(component)
    if not folder.is_dir():
        write_configs(folder, component)
    config = pixal.load_config(
        folder / "configs",
        [*WITHOUT_FIGURES, f"model_training.model={model}", f"validation.false_alarm_rate={rate}"],
    )
    (train,), (production,) = (batch / "train").iterdir(), (batch / "production").iterdir()
    pixal.preprocess(train, config=config, quiet=True)
    pixal.train(config=config, resume=True, quiet=True)
    pixal.sensitivity(kinds=sorted(set(_SIMILAR.values())), contrasts=_CONTRASTS, config=config, quiet=True)
    results = pixal.validate(production, config=config, quiet=True)
    defects: list[TrueDefect] = []
    curves: list[dict[str, Any]] = []
    for type_folder in sorted(production.iterdir()):
        name = type_folder.name
        curves += read_record(config.paths.resolve("metadata_path", name) / "sensitivity.yaml")["curves"]
        verdicts = {Path(part.image).stem: part.verdict for part in results.parts if part.type == name}
        defects += _true_defects(batch / "truth" / name, type_folder, config, name, verdicts)
        good = [row for row in _labels(batch / "truth" / name) if row["label"] == "0"]
        failed = sum(verdicts[row["name"]] == "fail" for row in good)
        sys.stdout.write(f"{batch.name}/{name}: {failed} of {len(good)} good parts failed\n")
    return defects, curves


def _labels(truth: Path) -> list[dict[str, str]]:
    with (truth / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _true_defects(truth: Path, photographs: Path, config: Any, name: str, verdicts: dict[str, str]) -> list[TrueDefect]:
    """The defects of one type. What a part would look like without its defect is the mean of the good photographs."""
    aligned = config.paths.resolve("aligned_images_path", name)
    good = np.mean([cv2.imread(str(path)).astype(np.float32) for path in sorted(aligned.glob("*.png"))], 0)
    table = config.paths.resolve("validate_aligned_metrics_path", name) / "results.csv"
    with table.open(newline="") as file:
        poses = {Path(row["image"]).stem: row for row in csv.DictReader(file)}
    defects = []
    for row in _labels(truth):
        if row["label"] == "0" or row["kind"] not in _SIMILAR or verdicts[row["name"]] == "error":
            continue
        path = next(path for path in photographs.iterdir() if path.stem == row["name"])
        mask = cv2.imread(str(truth / "masks" / f"{row['name']}.png"), cv2.IMREAD_GRAYSCALE)
        homography = np.array([float(poses[row["name"]][f"h{i}{j}"]) for i in range(3) for j in range(3)]).reshape(3, 3)
        size = (good.shape[1], good.shape[0])
        photograph = cv2.warpPerspective(cv2.imread(str(path)), homography, size, flags=cv2.INTER_CUBIC)
        moved = cv2.warpPerspective(mask, homography, size, flags=cv2.INTER_NEAREST) > 0
        if moved.any():
            contrast = _contrast(photograph.astype(np.float32), good, moved)
            defects.append(
                TrueDefect(row["kind"], _size(moved, row["kind"]), contrast, verdicts[row["name"]] == "fail")
            )
    return defects


def _size(mask: NDArray[np.bool_], kind: str) -> float:
    """The size of a defect as that of the planted kind is defined: the width of a line, else a diameter."""
    area = float(mask.sum())
    if _SIMILAR[kind] != "scratch":
        return float(np.sqrt(4 * area / np.pi))
    y, x = np.nonzero(mask)
    _, sides, _ = cv2.minAreaRect(np.stack([x, y], -1).astype(np.float32))
    return area / (max(sides) + 1)


def _contrast(photograph: NDArray[np.float32], good: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """The root mean square change of intensity over the mean intensity beneath, without that of the surroundings.

    Squares, because those of noise and of errors of the pose can be subtracted. Where the defect changes all its pixels
    alike, this is the contrast of ``PlantedDefect``; else it is slightly higher.
    """
    near = cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    around = near & (cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0) & (good.mean(-1) > 5)
    gain = np.median(photograph[around], 0) / np.maximum(np.median(good[around], 0), 1)
    change = photograph - good * gain
    squares = np.maximum((change[mask] ** 2).mean(0) - (change[around] ** 2).mean(0), 0.1)
    return float(np.copysign(np.sqrt(squares).mean(), change[mask].mean()) / (good * gain)[mask].mean())


def _cell(defects: list[TrueDefect], curves: list[dict[str, Any]]) -> tuple[str, bool]:
    """A row of the table, and whether the prediction agrees."""
    predictions = np.array([_predict(defect, curves) for defect in defects])
    probability, low, high = predictions.mean(0)
    count, found = len(defects), sum(defect.is_found for defect in defects)
    least, most = int(binom.ppf(0.025, count, low)), int(binom.ppf(0.975, count, high))
    kind = defects[0].kind
    sizes = f"{defects[0].size:.1f} to {defects[-1].size:.1f}"
    contrast = float(np.median([abs(defect.contrast) for defect in defects]))
    is_within = least <= found <= most
    return (
        f"{kind} ({_SIMILAR[kind]}) | {sizes} | {contrast:.2f} | {count} | {found} | {count * probability:.1f} "
        f"| {least} to {most} | {'yes' if is_within else 'no'}"
    ), is_within


def _predict(defect: TrueDefect, curves: list[dict[str, Any]]) -> NDArray[np.float64]:
    """The probability of detection and the ends of its band, between the two nearest contrasts."""
    known = [
        curve
        for curve in curves
        if curve["kind"] == _SIMILAR[defect.kind] and (curve["contrast"] < 0) == (defect.contrast < 0)
    ]
    known.sort(key=lambda curve: abs(curve["contrast_drawn"]))
    logs = np.log([abs(curve["contrast_drawn"]) for curve in known])
    values = np.array([_at_size(curve, defect.size) for curve in known])
    at = np.log(abs(defect.contrast))
    return np.asarray(expit([np.interp(at, logs, logit(np.clip(column, 1e-4, 1 - 1e-4))) for column in values.T]))


def _at_size(curve: dict[str, Any], size: float) -> tuple[float, float, float]:
    from pixal.validation.detection_probability import fit_detection_curve

    counts = list(zip(curve["sizes"], curve["found"], curve["planted"], strict=True))
    sizes = np.concatenate([np.full(planted, size) for size, _, planted in counts])
    found = np.concatenate([np.arange(planted) < found for _, found, planted in counts])
    fitted = fit_detection_curve(sizes, found)
    low, high = fitted.band(np.array([size]))
    probability = fitted.probability(np.array([size]))
    middle = float(np.interp(size, curve["sizes"], fitted.found / fitted.planted))
    return middle if probability is None else float(probability[0]), float(low[0]), float(high[0])


if __name__ == "__main__":
    main()
