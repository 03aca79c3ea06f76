"""The command ``train``."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.errors import InputError
from pixal.outcome import Outcome
from pixal.tasks import configured_task


def train(
    input_path: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    resume: bool = False,
    epochs: int | None = None,
    candidate: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train one model per type (in one-hot mode one for all types) on good parts, and calibrate it.

    The model, its calibration, metadata and figures go into the folder of the type (in one-hot mode, of the
    component). The run is tracked in MLflow.

    Args:
        input_path: An ``out.npz``, or a folder of them. Default: those of the component.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        resume: Skip models that are finished, and continue an interrupted run from its checkpoint.
        epochs: With ``resume``: train finished models for this many more epochs.
        candidate: Train a candidate for each model in use, with the good parts that ``accept`` has taken over. The
            model in use stays until ``promote``.
        quiet: Show no progress bars.

    Returns:
        The number of images that were trained on.

    Raises:
        InputError: There is nothing to train on.
        ConfigError: The configuration is not valid, or does not fit the model.
        ModelError: The checkpoint belongs to another run, or there is no model to continue.
        KeyboardInterrupt: The run was interrupted; the message says how to continue.
    """
    config = as_config(config)
    if candidate:
        if input_path is not None or epochs is not None:
            raise InputError(
                "a candidate is trained on the input of the component: --candidate goes without -i, --epochs"
            )
        return configured_task(config).train_candidate(config, resume=resume, quiet=quiet)
    return configured_task(config).train(input_path, config, resume=resume, epochs=epochs, quiet=quiet)
