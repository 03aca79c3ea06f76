"""Compare the scores of held-out good parts with those of new good parts, for any model families.

    python tests/benchmarks/held_out_scores.py WORK [--cells mono poly] [--batches NAME=BATCH[,BATCH...] ...]
            [--seeds 20] [--train 40] [--models ...] [--rates 0.01 0.05 0.2] [--set KEY=VALUE ...] [--page]

``--cells`` are photographs of solar cells from the package ``elpv-dataset`` (dependency group ``benchmarks``): good are
those with defect probability 0, defective those with 1; each seed is another random split, with 100 new good and 50
defective cells. A BATCH is a folder with ``train/COMPONENT/TYPE``, ``production/COMPONENT/TYPE`` and
``truth/TYPE/labels.csv``, as ``pixal.synthetic.write_batch`` makes it; each of a NAME is one seed. Photographs are
prepared once per split or batch, with the default settings; then each family is trained and judges them. Results stay
in WORK, so that a run can be stopped and continued; prepared photographs are removed when all families are done.

If held-out and new good parts have scores of the same distribution, the number of good parts that fail is a sum of
beta-binomial numbers (the threshold is itself one of the held-out scores); the table gives its central 95 %.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from page import WITHOUT_FIGURES, write_configs, write_section
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

_NEW_GOOD, _BAD = 100, 50  # solar cells per split
_FAMILIES = ["autoencoder", "conv_autoencoder", "gaussian", "padim", "patchcore", "combined"]


@dataclass(frozen=True)
class _Seed:
    """One split of the solar cells, or one batch.

    Attributes:
        data: The name of the row of the table.
        name: The name of the component.
        batch: The folder of the batch; None for solar cells.
        number: The seed of the split.
    """

    data: str
    name: str
    batch: Path | None
    number: int


def main() -> None:
    """Do the runs that are not done yet, and print or write the table of those that are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("--cells", nargs="*", default=[], choices=["mono", "poly"], help="kinds of solar cells")
    parser.add_argument("--batches", nargs="*", default=[], help="NAME=BATCH[,BATCH...]")
    parser.add_argument("--seeds", type=int, default=20, help="number of splits of the solar cells")
    parser.add_argument("--train", type=int, default=40, help="good solar cells to train on")
    parser.add_argument("--models", nargs="+", default=_FAMILIES, help="model families")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.05, 0.2], help="requested false-alarm rates")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings besides the defaults")
    parser.add_argument("--page", action="store_true", help="write the table to docs/benchmarks.md")
    parser.add_argument("--note", default="", help="added to the page")
    options = parser.parse_args()
    seeds = list(_seeds(options.cells, options.batches, options.seeds))
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)
    for seed in tqdm(sorted(seeds, key=lambda seed: seed.number)):
        missing = [model for model in options.models if not _result_file(seed, model).is_file()]
        for model in missing:
            _run(seed, model, options.train, options.set)
        for folder in (Path(), Path("out"), Path("validate")):
            shutil.rmtree(folder / seed.name, ignore_errors=True)
    lines = list(_table(seeds, options.models, options.rates))
    if options.page:
        write_section("held-out scores", lines, options.note)
    sys.stdout.write("\n".join([*lines, ""]))


def _seeds(cells: list[str], batches: list[str], count: int) -> Iterator[_Seed]:
    for data in cells:
        yield from (_Seed(f"cells, {data}", f"{data}_{number}", None, number) for number in range(count))
    for data, _, paths in (text.partition("=") for text in batches):
        for number, path in enumerate(map(Path, paths.split(","))):
            yield _Seed(data, f"{data.replace(' ', '_')}_{number}", path.absolute(), number)


def _result_file(seed: _Seed, model: str) -> Path:
    return Path(f"{seed.name}.{model}.json")


def _run(seed: _Seed, model: str, train: int, changes: list[str]) -> None:
    """Train a family, judge the new parts, and store the scores of held-out, good and bad parts."""
    import pixal
    from pixal.config import load_config
    from pixal.tasks.photographs.training.stored import load_trained

    folder = Path(seed.name)
    if not (folder / "configs").is_dir():
        write_configs(folder, seed.name)
    settings = [*WITHOUT_FIGURES, "validation.save_anomaly_maps=False", f"model_training.model={model}", *changes]
    config = load_config(folder / "configs", settings)
    is_prepared = folder / "is_prepared"
    if not is_prepared.is_file():
        _write_photographs(folder, seed, train)
        pixal.preprocess(folder / "train" / seed.name, config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    if is_prepared.is_file():
        parts = pixal.detect(config=config, quiet=True).parts
    else:
        parts = pixal.validate(folder / "new" / seed.name, config=config, quiet=True).parts
        is_prepared.touch()
    scores = {kind: [part.score for part in parts if part.image.startswith(kind)] for kind in ("good", "bad")}
    if failed := [f"{part.image}: {part.reason}" for part in parts if part.score is None]:
        raise SystemExit(f"{seed.name}: {len(failed)} parts have no score, the first is {failed[0]}")
    held_out = next(iter(load_trained(config, "front").calibrations.values())).scores
    _result_file(seed, model).write_text(json.dumps({"held_out": held_out.tolist(), **scores}))


def _write_photographs(folder: Path, seed: _Seed, train: int) -> None:
    """Write ``train/COMPONENT/front`` and ``new/COMPONENT/front``, with names that begin with good or bad."""
    train_folder, new_folder = (folder / name / seed.name / "front" for name in ("train", "new"))
    train_folder.mkdir(parents=True, exist_ok=True)
    new_folder.mkdir(parents=True, exist_ok=True)
    if seed.batch is None:
        from elpv_dataset.utils import load_dataset

        images, probabilities, types = load_dataset()
        generator, kind = np.random.default_rng(seed.number), seed.name.split("_")[0]
        good, bad = (generator.permutation(np.flatnonzero((types == kind) & (probabilities == p))) for p in (0, 1))
        for target, name, chosen in (
            (train_folder, "good", good[:train]),
            (new_folder, "good", good[train : train + _NEW_GOOD]),
            (new_folder, "bad", bad[:_BAD]),
        ):
            for index in chosen:
                cv2.imwrite(str(target / f"{name}_{index}.png"), images[index])
        return
    for path in seed.batch.glob("train/*/*/*"):
        shutil.copy(path, train_folder)
    with next(seed.batch.glob("truth/*/labels.csv")).open(newline="") as file:
        labels = {Path(row["name"]).stem: row["label"] for row in csv.DictReader(file)}
    for path in seed.batch.glob("production/*/*/*"):
        shutil.copy(path, new_folder / f"{'bad' if labels[path.stem] == '1' else 'good'}_{path.name}")


def _table(seeds: list[_Seed], models: list[str], rates: list[float]) -> Iterator[str]:
    columns = " | ".join(f"failed at {rate:g} (expected)" for rate in rates)
    yield f"| photographs | model | seeds | image AUROC | ratio of medians | {columns} | found at {rates[0]:g} |"
    yield f"|---|---|---:|---:|---:|{'---|' * len(rates)}---:|"
    for data in dict.fromkeys(seed.data for seed in seeds):
        for model in models:
            files = [_result_file(seed, model) for seed in seeds if seed.data == data]
            results = [json.loads(file.read_text()) for file in files if file.is_file()]
            if results:
                yield f"| {data} | `{model}` | {len(results)} | {_summary(results, rates)} |"


def _summary(results: list[dict[str, Any]], rates: list[float]) -> str:
    """The columns of the table after the number of seeds."""
    from pixal.calibration.settings import Threshold
    from pixal.calibration.thresholds import set_threshold

    areas = [
        roc_auc_score([0] * len(each["good"]) + [1] * len(each["bad"]), each["good"] + each["bad"]) for each in results
    ]
    ratios = [float(np.median(each["held_out"]) / np.median(each["good"])) for each in results]
    cells = [f"{np.mean(areas):.3f}", f"{np.mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
    generator = np.random.default_rng(0)
    held_out = [np.array(each["held_out"]) for each in results]
    thresholds = [[set_threshold(scores, rate, Threshold())[0] for rate in rates] for scores in held_out]
    for index, rate in enumerate(rates):
        failed, parts, expected = 0, 0, np.zeros(10_000)
        for each, at_rates in zip(results, thresholds, strict=True):
            count = len(each["held_out"])
            failed += int((np.array(each["good"]) > at_rates[index]).sum())
            parts += len(each["good"])
            above = max(1, int(np.floor(rate * (count + 1) + 1e-9)))  # the rank of the threshold, from above
            expected += betabinom.rvs(
                len(each["good"]), above, count + 1 - above, size=len(expected), random_state=generator
            )
        low, high = np.quantile(expected, [0.025, 0.975]).astype(int)
        cells.append(f"{failed} of {parts} ({low} to {high})")
    found = [np.array(each["bad"]) > at_rates[0] for each, at_rates in zip(results, thresholds, strict=True)]
    return " | ".join([*cells, f"{np.concatenate(found).mean():.2f}"])


if __name__ == "__main__":
    main()
