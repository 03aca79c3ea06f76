"""The commands ``encode`` and ``evaluate``, which examine trained models."""

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
    """Write the latent vector of each photograph, with the models that ``train`` wrote.

    For each type this writes ``latents.npy`` (n, L) float32, ``manifest.csv``, whose row n names the photograph of
    vector n, and ``latents.yaml``. The same input gives the same bytes of the first two.

    Args:
        input_path: Photographs as for ``validate``, or an ``.npz`` that ``make_input`` or ``validate`` wrote.
        out: Folder to write to; each type gets a sub-folder. Default: the entry ``latents_path`` of ``paths.yaml``.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.

    Returns:
        The number of vectors, and the photographs that could not be prepared, with the reasons.

    Raises:
        InputError: The input cannot be used.
        ConfigError: The configuration is not valid.
        ModelError: A model is missing, or does not match the input.
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
    """Measure how well the models reconstruct good parts.

    For each type this writes ``metadata/evaluation.yaml``, ``metadata/evaluation.csv`` and
    ``figures/evaluation_reconstructions.png``. The run is tracked in MLflow.

    Args:
        input_path: Photographs as for ``validate``, or an ``.npz`` that ``make_input`` or ``validate`` wrote, or a
            folder of them. Default: the parts that the models were trained on.
        checkpoint: Weights to use instead of those of the model: the epoch of a file in ``model/checkpoints``, or a
            file.
        samples: How many parts the figure shows. They are chosen at random, from the model's seed.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.

    Returns:
        The measures per type.

    Raises:
        InputError: The input cannot be used.
        ConfigError: The configuration is not valid.
        ModelError: A model is missing, does not match the input, or makes no reconstructions.
    """
    config = as_config(config)
    return configured_task(config).evaluate(input_path, config, checkpoint=checkpoint, samples=samples, quiet=quiet)
