"""The commands ``export`` and ``import``, which carry trained models from one computer to another."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from pixal.config import Config, as_config
from pixal.errors import InputError, nearest_hint
from pixal.tasks import configured_task
from pixal.train_model.model_file.archive import MODEL_FILE_ENDING, is_model_file, unpack_model_file, write_model_file
from pixal.train_model.model_file.importing import import_model
from pixal.train_model.stored_model import load_stored, trained_types

_log = logging.getLogger(__name__)


def export(
    type_name: str | None = None,
    *,
    out: str | Path | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
) -> Path:
    """Write a trained model into one file, with everything that validation needs, and nothing else.

    The file holds the model, the stored preprocessing, the calibration, a manifest with versions and hashes, and the
    licence of pretrained weights. It holds no photographs. The same model gives the same bytes.

    Args:
        type_name: The type whose model is written. Default: the only one that is trained; in one-hot mode, and for
            charge clusters, the model of the component.
        out: The file to write; its name ends in ``.pixal``. Default: ``COMPONENT_TYPE.pixal`` in the working directory.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Replace a file of the same name.

    Returns:
        The file.

    Raises:
        InputError: The type must be named, or the file cannot be written.
        ConfigError: The configuration is not valid.
        ModelError: The model is missing or damaged.
    """
    config = as_config(config)
    owner = _owner(config, type_name)
    stored = load_stored(config, owner)
    default = "_".join(filter(None, (config.paths.component, owner))) + MODEL_FILE_ENDING
    path = Path(default if out is None else out)
    if not is_model_file(path.name):
        raise InputError(f"{path}: the name of a model file ends in {MODEL_FILE_ENDING}")
    if os.path.lexists(path) and not (force and path.is_file()):
        raise InputError(f"{path} already exists; choose another file with -o, or replace it with --force")
    manifest = write_model_file(path, stored, task=config.parameters.task)
    _log.info(
        "%s: wrote %s (%s, trained %s, %.1f MB)",
        manifest.label,
        path,
        manifest.model,
        manifest.trained,
        path.stat().st_size / 1e6,
    )
    return path


def import_(path: str | Path, *, config: Config | str | Path | None = None, force: bool = False) -> Path:
    """Store the model of a model file as a model of the component. The verdicts are those of the exported model.

    The file is checked before anything is written.

    Args:
        path: A file that ``export`` wrote.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Replace another model of the type. It is kept as a model file in ``replaced_models``, in the folder of
            the type.

    Returns:
        The folder of the model's type.

    Raises:
        InputError: The file is not exactly what ``export`` wrote, is from a newer version, or does not fit the
            settings; or another model is there.
        ConfigError: The configuration is not valid.
        ModelError: The model in the file is damaged.
    """
    config, source = as_config(config), Path(path)
    with tempfile.TemporaryDirectory(prefix="pixal_") as folder:
        manifest, unpacked = unpack_model_file(source, Path(folder))
        check = configured_task(config).check_model
        return import_model(source, config, manifest, unpacked, check, force=force)


def _owner(config: Config, type_name: str | None) -> str | None:
    """The type whose model is exported; None for one model of all types."""
    if config.model_training.one_hot_encoding or config.parameters.task != "photographs":
        if type_name is not None:
            raise InputError(f"one model serves the whole component; leave out {type_name}")
        return None
    known = trained_types(config)
    if type_name is None and len(known) == 1:
        return known[0]
    if type_name is None and known:
        raise InputError(f"several types have a model: {', '.join(known)}; name the one to export")
    if type_name not in known:
        folder = config.paths.resolve("component_model_path")
        trained = f"trained in {folder}: {', '.join(known)}" if known else f"nothing in {folder} is trained yet"
        name = type_name or "a type"
        raise InputError(f"{name} has no model to export ({trained}); run train first{nearest_hint(name, known)}")
    return type_name
