"""Count the good parts that fail, and compare them with the requested false-alarm rate.

    python tests/benchmarks/false_alarms.py WORK [--seeds 20] [--train 40] [--good 60] [--rates 0.01 0.05 0.2]
                                           [--models autoencoder gaussian] [--frame 640 360]

PIXAL renders one batch of good parts per seed, of one image type. It is preprocessed, trained on and validated without
figures; ``detect`` computes the verdicts of the other rates. The results stay in WORK, and runs that are already done
are skipped. The table says whether the number of failed parts, over all seeds, is within the central 95 % of the
numbers that occur if held-out and new good parts have scores of the same distribution.

This interval is wider than that of the binomial distribution with the requested rate. The threshold of a seed comes
from its few held-out scores, so the rate of false alarms itself differs from seed to seed: with 40 scores and a
requested rate of 0.05, it has a beta distribution with the parameters 2 and 39 (Vovk 2012). The interval is computed by
drawing scores from a Gumbel distribution, the one that the tail of the threshold is fitted with; for a threshold that
is one of the scores, the distribution does not matter.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from page import WITHOUT_FIGURES, write_configs, write_section
from scipy.stats import gumbel_r
from tqdm import tqdm

_TYPE = "front"
_DRAWN = 20_000  # numbers of failed parts
_THRESHOLDS = 2000


def main() -> None:
    """Do the runs that are not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("--seeds", type=int, default=20, help="number of batches")
    parser.add_argument("--train", type=int, default=40, help="good images for training, per batch")
    parser.add_argument("--good", type=int, default=60, help="good parts to validate, per batch")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.05, 0.2], help="requested false-alarm rates")
    parser.add_argument("--models", nargs="+", default=["autoencoder", "gaussian"], help="model families")
    parser.add_argument("--frame", nargs=2, type=int, default=[640, 360], help="width and height of a photograph")
    parser.add_argument("--note", default="", help="added to the page")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)  # MLflow stores the runs in the working directory
    lines = [
        "| model | requested rate | good parts | failed | rate | expected (95 %) | within |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for model in options.models:
        failed_per_seed = [_count_failed(seed, model, options) for seed in tqdm(range(options.seeds), desc=model)]
        for rate, counts in zip(options.rates, zip(*failed_per_seed, strict=True), strict=True):
            parts, failed = options.seeds * options.good, sum(counts)
            low, high = expected_failures(options.train, options.good, options.seeds, rate)
            is_within = "yes" if low <= failed <= high else "no"
            share = f"{rate:g} | {parts} | {failed} | {failed / parts:.4f}"
            lines.append(f"| {model} | {share} | {low} to {high} | {is_within} |")
    width, height = options.frame
    note = f"{width}x{height} pixels, {options.train} good images for training, {options.good} good parts per seed, "
    note += f"{options.seeds} seeds."
    write_section("false alarms", lines, f"{note} {options.note}".strip())


def expected_failures(train: int, good: int, seeds: int, rate: float) -> tuple[int, int]:
    """The central 95 % of the number of failed parts if held-out and new scores have the same distribution.

    Args:
        train: Number of held-out scores per seed.
        good: Number of new parts per seed.
        seeds: Number of seeds.
        rate: The requested false-alarm rate.
    """
    from pixal.calibration.settings import Threshold
    from pixal.calibration.thresholds import set_threshold

    rng = np.random.default_rng(0)
    scores = gumbel_r.rvs(size=(_THRESHOLDS, train), loc=10, random_state=rng)
    thresholds = [set_threshold(row, rate, Threshold())[0] for row in scores]
    rates = gumbel_r.sf(rng.choice(thresholds, (_DRAWN, seeds)), loc=10)
    low, high = np.quantile(rng.binomial(good, rates).sum(1), [0.025, 0.975])
    return int(low), int(high)


def _count_failed(seed: int, model: str, options: argparse.Namespace) -> list[int]:
    """Number of good parts of one seed that fail, one per rate. The run is skipped if it is already done."""
    import pixal
    from pixal.config import load_config
    from pixal.synthetic import write_batch

    component = f"Seed_{seed:02}"
    width, height = options.frame
    if (width, height) != (640, 360):
        component += f"_{width}x{height}"
    result = Path(f"{component}_{model}_{'_'.join(f'{rate:g}' for rate in options.rates)}.json")
    if not result.is_file():
        folder = Path(component)
        if not folder.is_dir():
            write_configs(folder, component)
        batch = write_batch(
            folder,
            component=component,
            types=[_TYPE],
            train=options.train,
            good=options.good,
            bad=0,
            seed=1000 + seed,
            frame_size=(width, height),
        )
        settings = [*WITHOUT_FIGURES, "validation.save_anomaly_maps=False", f"model_training.model={model}"]
        configs = [
            load_config(folder / "configs", [*settings, f"validation.false_alarm_rate={rate}"])
            for rate in options.rates
        ]
        pixal.preprocess(batch.train, config=configs[0], quiet=True)
        pixal.train(config=configs[0], quiet=True)
        outcomes = [pixal.validate(batch.production, config=configs[0], quiet=True)]
        outcomes += [pixal.detect(config=config, quiet=True) for config in configs[1:]]
        counts = [sum(part.verdict == "fail" for part in outcome.parts) for outcome in outcomes]
        result.write_text(json.dumps(counts))
    failed: list[int] = json.loads(result.read_text())
    return failed


if __name__ == "__main__":
    main()
