"""The first component in Python: inspect, preprocess, train and validate, as the commands in the README do.

Run it in a new folder: ``python first_component.py``. It renders photographs of a small circuit, so that it needs no
others. For your own, replace the two folders, and the name of the component in ``configs/paths.yaml``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pixal
from pixal.synthetic.batch import write_batch

COMPONENT = "My_Circuit"
PATHS = """\
component_model_path: {component: My_Circuit, base: ./out}
component_validate_path: {component: My_Circuit, base: ./validate}
"""


def main(train: int = 24, parts: int = 6, width: int = 960) -> None:
    """Run all steps in the working directory.

    Args:
        train: Number of good photographs per type to train on.
        parts: Number of good photographs per type to validate, and of defective ones.
        width: Width of the photographs in pixels.
    """
    batch = write_batch(
        Path("photographs"),
        component=COMPONENT,
        train=train,
        good=parts,
        bad=parts,
        severity=0.7,
        frame_size=(width, width * 9 // 16),
    )
    Path("configs").mkdir(exist_ok=True)
    Path("configs/paths.yaml").write_text(PATHS, encoding="utf-8")
    config = pixal.load_config("configs", ["model_training.model=gaussian", "validation.sensitivity=off"])

    inspection = pixal.inspect(batch.train, config=config)
    show(inspection.summary())

    pixal.preprocess(batch.train, config=config)
    pixal.train(config=config)
    verdicts = pixal.validate(batch.production, truth=batch.truth, config=config)
    show(verdicts.summary())


def show(text: str) -> None:
    """Write to the terminal."""
    sys.stdout.write(f"{text}\n\n")


if __name__ == "__main__":
    main()
