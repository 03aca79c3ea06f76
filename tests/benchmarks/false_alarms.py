"""How many good parts fail, against the rate that was asked for: good-only batches of many seeds.

    python tests/benchmarks/false_alarms.py WORK [--seeds 20] [--train 40] [--good 60] [--rates 0.01 0.05 0.2]
                                           [--models autoencoder gaussian]

PIXAL renders the batches, of one type of 640x360 photographs each, and preprocesses, trains and validates without
pictures; ``detect`` judges again for each other rate. What that leaves in WORK is kept and not made again. A rate is
held where the false alarms of all seeds together lie within the central 95 % of the binomial distribution of the rate.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from page import write_configs, write_section
from scipy.stats import binom
from tqdm import tqdm

_TYPE = "front"
_PLAIN = [
    *("preprocessing.draw_matches=False", "preprocessing.save_metrics=False", "preprocessing.save_overlays=False"),
    *(f"plotting.plot_{name}=False" for name in ("loss", "accuracy", "anomaly_heatmap", "distributions")),
    "validation.save_anomaly_maps=False",
]


def main() -> None:
    """Run what is not there yet, and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--good", type=int, default=60)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.05, 0.2])
    parser.add_argument("--models", nargs="+", default=["autoencoder", "gaussian"])
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)  # where MLflow's store then is
    lines = [
        "| model | requested rate | good parts | failed | rate | expected (95 %) | within |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for model in options.models:
        found = [_alarms(seed, model, options) for seed in tqdm(range(options.seeds), desc=model)]
        for rate, alarms in zip(options.rates, zip(*found, strict=True), strict=True):
            parts, failed = options.seeds * options.good, sum(alarms)
            low, high = (int(end) for end in binom.interval(0.95, parts, rate))
            held = "yes" if low <= failed <= high else "no"
            share = f"{rate:g} | {parts} | {failed} | {failed / parts:.4f}"
            lines.append(f"| {model} | {share} | {low} to {high} | {held} |")
    note = f"{options.train} good images to train on, {options.good} good parts, {options.seeds} seeds. {options.note}"
    write_section("false alarms", lines, note.strip())


def _alarms(seed: int, model: str, options: argparse.Namespace) -> list[int]:
    """How many good parts of one seed fail at each rate, as the model judges them."""
    import pixal
    from pixal.config import load_config
    from pixal.synthetic import write_batch

    component = f"Seed_{seed:02}"
    kept = Path(f"{component}_{model}_{'_'.join(f'{rate:g}' for rate in options.rates)}.json")
    if not kept.is_file():
        folder = Path(component)
        if not folder.is_dir():
            write_configs(folder, component)
        batch = write_batch(
            folder, component=component, types=[_TYPE], train=options.train, good=options.good, bad=0, seed=1000 + seed
        )
        configs = [
            load_config(
                folder / "configs",
                [*_PLAIN, f"model_training.model={model}", f"validation.false_alarm_rate={rate}"],
            )
            for rate in options.rates
        ]
        pixal.preprocess(batch.train, config=configs[0], quiet=True)
        pixal.train(config=configs[0], quiet=True)
        results = [pixal.validate(batch.production, config=configs[0], quiet=True)]
        results += [pixal.detect(config=config, quiet=True) for config in configs[1:]]
        kept.write_text(json.dumps([sum(part.verdict == "fail" for part in found.parts) for found in results]))
    alarms: list[int] = json.loads(kept.read_text())
    return alarms


if __name__ == "__main__":
    main()
