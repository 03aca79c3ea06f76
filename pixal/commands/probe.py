"""The commands encode and evaluate, which look into trained models."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Outcome, Results
from pixal.tasks import configured_task


def encode(
    input_path: str | Path,
    *,
    out: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Outcome:
    """Write the latent vectors of all photographs below ``input_path``, or of an ``.npz`` that make_input or validate
    wrote, with the models that ``train`` wrote.

    Of each type ``latents.npy`` (n, L) float32, ``manifest.csv``, whose row n says which photograph vector n is of, and
    ``latents.yaml``; below ``out/TYPE``, or else in the entry ``latents_path`` of ``paths.yaml``. The same input gives
    the same bytes of the first two. Photographs that cannot be prepared are the failures of the outcome. Raises
    InputError for input that cannot be used, ModelError for a model that is missing or does not match.
    """
    config = as_config(config)
    return configured_task(config).encode(input_path, config, out=out, quiet=quiet)


def evaluate(
    input_path: str | Path | None = None,
    *,
    checkpoint: int | str | Path | None = None,
    samples: int = 8,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Measure the reconstructions of good parts: of what the models were trained with, or of ``input_path``
    (photographs, an ``.npz`` that make_input or validate wrote, a folder of such).

    ``checkpoint``: weights in place of the model's own; the epoch of a file in ``model/checkpoints``, or a file.
    ``samples``: how many parts to draw, at random by the model's seed. Writes ``metadata/evaluation.yaml``,
    ``metadata/evaluation.csv`` and ``figures/evaluation_reconstructions.png`` of each type, and a run into MLflow.
    Raises InputError for input that cannot be used, ModelError for a model that is missing, or without reconstructions.
    """
    config = as_config(config)
    return configured_task(config).evaluate(input_path, config, checkpoint=checkpoint, samples=samples, quiet=quiet)
