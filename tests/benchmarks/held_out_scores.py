"""Compare the scores of held-out good parts with those of new good parts, for the families of patch features.

    python tests/benchmarks/held_out_scores.py WORK [--data mono poly rendered] [--seeds 5] [--models padim patchcore]
                                               [--train 200 40] [--rates 0.01 0.05 0.2]

``mono`` and ``poly`` are photographs of solar cells from the package ``elpv-dataset`` (dependency group
``benchmarks``): good are those with defect probability 0, defective those with 1; each seed is another random split,
with up to 200 new good and 100 defective cells. ``rendered`` are batches of PIXAL's own renderer, 60 good and 30
defective parts. Everything goes through the public functions. If the scores of held-out and of new good parts have the
same distribution, the number of good parts that fail is a sum of beta-binomial numbers (the threshold is itself one of
the held-out scores); the table gives its central 95 %. The results stay in WORK, and runs that are done are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from page import WITHOUT_FIGURES, write_configs, write_section
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

_NEW_GOOD, _BAD = 200, 100  # solar cells per split
_TEXTURE = (  # photographs of a surface that fills the frame
    "preprocessing.remove_background.method=none",
    "preprocessing.alignment.apply_alignment=False",
    "preprocessing.alignment.MIN_SCORE_THRESHOLD=0",
    "preprocessing.alignment.MAX_MSE_THRESHOLD=65025",
    "preprocessing.preprocessor.pool_size=1",
)


def main() -> None:
    """Do the runs that are not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("--data", nargs="+", default=["mono", "poly", "rendered"], choices=["mono", "poly", "rendered"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--train", type=int, nargs="+", default=[200, 40], help="good photographs to train on")
    parser.add_argument("--models", nargs="+", default=["padim", "patchcore"], help="model families")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.05, 0.2], help="requested false-alarm rates")
    parser.add_argument("--note", default="", help="added to the page")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)
    rates = " | ".join(f"{rate:g}: failed (expected) / found" for rate in options.rates)
    lines = [
        f"| photographs | to train on | model | seeds | image AUROC | ratio of medians | {rates} |",
        f"|---|---:|---|---:|---:|---:|{'---|' * len(options.rates)}",
    ]
    for data in options.data:
        for train in options.train:
            if data == "rendered" and train > 100:
                continue
            for model in options.models:
                seeds = tqdm(range(options.seeds), desc=f"{data} {train} {model}")
                results = [_run(data, train, seed, model, options.rates) for seed in seeds]
                lines.append(f"| {data} | {train} | {model} | {options.seeds} | {_summary(results, options.rates)} |")
    write_section("held-out scores", lines, options.note)


def _run(data: str, train: int, seed: int, model: str, rates: list[float]) -> dict[str, Any]:
    """Scores of one split or batch, and what fails at each rate."""
    import pixal
    from pixal.config import load_config
    from pixal.tasks.photographs.training.stored import load_trained

    component = f"{data}_{train}_{seed}"
    result = Path(f"{component}_{model}.json")
    if result.is_file():
        stored: dict[str, Any] = json.loads(result.read_text())
        return stored
    folder = Path(component)
    if not folder.is_dir():
        write_configs(folder, component)
        _write_photographs(folder, data, train, seed)
    settings = [*WITHOUT_FIGURES, "validation.save_anomaly_maps=False", f"model_training.model={model}"]
    settings += _TEXTURE if data != "rendered" else ()
    configs = [load_config(folder / "configs", [*settings, f"validation.false_alarm_rate={rate}"]) for rate in rates]
    pixal.preprocess(folder / "train" / component, config=configs[0], quiet=True)
    pixal.train(config=configs[0], quiet=True)
    outcomes = [pixal.validate(folder / "new" / component, config=configs[0], quiet=True)]
    outcomes += [pixal.detect(config=config, quiet=True) for config in configs[1:]]
    good = [{part.image: part for part in outcome.parts if part.image.startswith("good")} for outcome in outcomes]
    bad = [{part.image: part for part in outcome.parts if part.image.startswith("bad")} for outcome in outcomes]
    if failed := [f"{part.image}: {part.reason}" for part in outcomes[0].parts if part.score is None]:
        raise SystemExit(f"{component}: {len(failed)} parts have no score, the first is {failed[0]}")
    held_out = next(iter(load_trained(configs[0], "front").calibrations.values())).scores
    content = {
        "held_out": held_out.tolist(),
        "good": [part.score for part in good[0].values()],
        "bad": [part.score for part in bad[0].values()],
        "failed": [sum(part.verdict == "fail" for part in parts.values()) for parts in good],
        "found": [sum(part.verdict == "fail" for part in parts.values()) for parts in bad],
    }
    result.write_text(json.dumps(content))
    return content


def _write_photographs(folder: Path, data: str, train: int, seed: int) -> None:
    """Write ``train/COMPONENT/front`` and ``new/COMPONENT/front``, with names that begin with good or bad."""
    component = folder.name
    if data == "rendered":
        from pixal.synthetic import write_batch

        batch = write_batch(
            folder / "batch", component=component, types=["front"], train=train, good=60, bad=30, seed=2000 + seed
        )
        labels = dict(
            line.split(",")[:2] for line in (Path(batch.truth) / "front" / "labels.csv").read_text().splitlines()[1:]
        )
        for source, target in ((batch.train, "train"), (batch.production, "new")):
            (folder / target / component / "front").mkdir(parents=True)
            for path in sorted((Path(source) / "front").iterdir()):
                kind = "bad" if labels.get(path.name) == "1" else "good"
                shutil.copy(path, folder / target / component / "front" / f"{kind}_{path.name}")
        return
    from elpv_dataset.utils import load_dataset

    images, probabilities, types = load_dataset()
    generator = np.random.default_rng(seed)
    good, bad = (generator.permutation(np.flatnonzero((types == data) & (probabilities == p))) for p in (0, 1))
    for target, kind, chosen in (
        ("train", "good", good[:train]),
        ("new", "good", good[train : train + _NEW_GOOD]),
        ("new", "bad", bad[:_BAD]),
    ):
        (folder / target / component / "front").mkdir(parents=True, exist_ok=True)
        for index in chosen:
            cv2.imwrite(str(folder / target / component / "front" / f"{kind}_{index}.png"), images[index])


def _summary(results: list[dict[str, Any]], rates: list[float]) -> str:
    """The columns of the table after the number of seeds."""
    areas = [
        roc_auc_score([0] * len(each["good"]) + [1] * len(each["bad"]), each["good"] + each["bad"]) for each in results
    ]
    ratios = [float(np.median(each["held_out"]) / np.median(each["good"])) for each in results]
    cells = [f"{np.mean(areas):.3f}", f"{np.mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
    generator = np.random.default_rng(0)
    for index, rate in enumerate(rates):
        failed, found = (sum(each[name][index] for each in results) for name in ("failed", "found"))
        total = np.zeros(10_000)
        for each in results:
            count = len(each["held_out"])
            above = max(1, int(np.floor(rate * (count + 1) + 1e-9)))  # the rank of the threshold, from above
            total += betabinom.rvs(len(each["good"]), above, count + 1 - above, size=len(total), random_state=generator)
        low, high = np.quantile(total, [0.025, 0.975]).astype(int)
        parts, defects = (sum(len(each[name]) for each in results) for name in ("good", "bad"))
        cells.append(f"{failed} of {parts} ({low} to {high}) / {found / defects:.2f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
