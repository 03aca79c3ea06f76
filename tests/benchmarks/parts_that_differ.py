"""Compare local registration and local light with a rigid pose and one gain, on batches of parts that differ or do not.

    python tests/benchmarks/parts_that_differ.py WORK NAME=BATCH[,BATCH...] ... [--model combined] [--note TEXT]

Each BATCH is a folder with ``train/COMPONENT/TYPE``, ``production/COMPONENT/TYPE`` and ``truth/TYPE/labels.csv``, as
``pixal.synthetic.write_batch`` makes it. The rows of the table are means over the batches of a NAME. "found at a true
rate" is the share of defective parts whose score is above the highest of the good parts. The results stay in WORK, and
runs that are done are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from page import WITHOUT_FIGURES, write_configs, write_section
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

_VARIANTS = {
    "rigid, one gain": [
        "preprocessing.preprocessor.local_registration=False",
        "preprocessing.preprocessor.light_matching=gain",
    ],
    "local (default)": [],
}


def main() -> None:
    """Do the runs that are not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("data", nargs="+", help="NAME=BATCH[,BATCH...]")
    parser.add_argument("--model", default="combined", help="model family")
    parser.add_argument("--note", default="", help="added to the page")
    options = parser.parse_args()
    data = {name: [Path(path).absolute() for path in paths.split(",")] for name, paths in _pairs(options.data)}
    options.work.mkdir(parents=True, exist_ok=True)
    os.chdir(options.work)
    lines = [
        "| parts | batches | registration and light | image AUROC (worst) | false alarms | found at an asked 1 % | "
        "found at a true rate | CPU s per new part |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, batches in data.items():
        for variant, settings in _VARIANTS.items():
            runs = [_run(batch, variant, settings, options.model) for batch in tqdm(batches, desc=f"{name}, {variant}")]
            values = {key: np.array([run[key] for run in runs]) for key in runs[0]}
            lines.append(
                f"| {name} | {len(runs)} | {variant} | {values['auroc'].mean():.3f} ({values['auroc'].min():.3f}) | "
                f"{values['failed'].sum():.0f} of {values['good'].sum():.0f} | {values['found'].mean():.2f} | "
                f"{values['found_true'].mean():.2f} | {values['seconds'].mean():.2f} |"
            )
    write_section("parts that differ", lines, options.note)


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    return [(name, paths) for name, _, paths in (text.partition("=") for text in texts)]


def _run(batch: Path, variant: str, settings: list[str], model: str) -> dict[str, Any]:
    """Scores and verdicts of one batch."""
    import pixal
    from pixal.config import load_config

    folder = Path(f"{batch.name}_{model}_{variant.split(',')[0].split()[0]}")
    result = folder.with_suffix(".json")
    if result.is_file():
        stored: dict[str, Any] = json.loads(result.read_text())
        return stored
    if not folder.is_dir():
        write_configs(folder, "Part")
    (train,), (new,) = ((batch / name).iterdir() for name in ("train", "production"))
    used = [*WITHOUT_FIGURES, "validation.save_anomaly_maps=False", f"model_training.model={model}", *settings]
    config = load_config(folder / "configs", used)
    pixal.preprocess(train, config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    started = time.process_time()
    parts = pixal.validate(new, config=config, quiet=True).parts
    seconds = (time.process_time() - started) / len(parts)
    labels = {}
    for path in (batch / "truth").glob("*/labels.csv"):
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            labels |= {(path.parent.name, Path(row["name"]).stem): int(row["label"]) for row in rows}
    if failed := [f"{part.image}: {part.reason}" for part in parts if part.score is None]:
        raise SystemExit(f"{batch}: {len(failed)} parts have no score, the first is {failed[0]}")
    is_bad = np.array([labels[part.type, Path(part.image).stem] for part in parts]) == 1
    scores = np.array([part.score for part in parts])
    fails = np.array([part.verdict == "fail" for part in parts])
    content = {
        "auroc": float(roc_auc_score(is_bad, scores)),
        "good": int((~is_bad).sum()),
        "failed": int(fails[~is_bad].sum()),
        "found": float(fails[is_bad].mean()),
        "found_true": float((scores[is_bad] > scores[~is_bad].max()).mean()),
        "seconds": seconds,
    }
    result.write_text(json.dumps(content))
    return content


if __name__ == "__main__":
    main()
