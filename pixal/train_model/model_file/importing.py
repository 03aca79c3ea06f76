"""Store the model of a model file as a model of the component."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pixal.config import Config
from pixal.errors import InputError, ModelError
from pixal.io import ownership
from pixal.io.files import atomic_write, require_writable
from pixal.io.locking import lock_folder
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.train_model.model_file.archive import MODEL_FILE_ENDING, write_model_file
from pixal.train_model.model_file.manifest import Manifest
from pixal.train_model.stored_model import MODEL_RECORD, StoredModel, load_stored

_log = logging.getLogger(__name__)

REPLACED_FOLDER = "replaced_models"
"""Folder of the models that ``pixal import --force`` replaced, in the folder of their type."""

CheckModel = Callable[[StoredModel], object]


def import_model(
    source: Path, config: Config, manifest: Manifest, unpacked: StoredModel, check: CheckModel, *, force: bool
) -> Path:
    """Store an unpacked model as the one of its type, and return its folder.

    A model that is there is only replaced with ``force``; it is kept as a model file in ``REPLACED_FOLDER``.

    Args:
        source: The model file, for messages.
        config: The settings; they say where models are.
        manifest: The manifest of the file.
        unpacked: The model, in a folder of its own.
        check: Raises a ``PixalError`` if a model is not one of the task.
        force: Whether another model is replaced.

    Raises:
        InputError: The model does not fit the settings, another one is there, or the folder belongs to somebody else.
        ModelError: The model is damaged.
    """
    _check_fits(source, config, manifest)
    check(unpacked)
    owner = manifest.type
    root, folder = config.paths.resolve("component_model_path", owner), config.paths.resolve("model_path", owner)
    record_file = config.paths.resolve("metadata_path", owner) / MODEL_RECORD
    planned = [record_file, *(folder / name for name in unpacked.record.files)]
    check_outputs(config.paths, "component_model_path", [owner], planned=planned)
    if record_file.is_file():
        if _is_same(config, unpacked):
            _log.info("%s: this model is already in %s", manifest.label, root)
            return root
        if not force:
            raise InputError(
                f"{root} already has another model; add --force to replace it (it is kept in {REPLACED_FOLDER} there), "
                "or import into another component (component_model_path in paths.yaml)"
            )
    with lock_folder(root):
        claim_outputs(config.paths, "component_model_path", [owner])
        remove_unfinished(config.paths, "component_model_path", [owner])
        require_writable(root, folder, record_file.parent)
        if record_file.is_file():
            _keep_replaced(config, owner, root)
        # Without its record a model counts as untrained. So no record matches a mixture of old and new files.
        ownership.remove(record_file)
        for name in unpacked.record.files:
            _copy(unpacked.folder / name, folder / name)
        _copy(unpacked.record_file, record_file)
    record = unpacked.record
    _log.info("%s: imported into %s (%s, trained %s)", manifest.label, root, record.model, record.created)
    return root


def _check_fits(source: Path, config: Config, manifest: Manifest) -> None:
    """Raise ``InputError`` if the settings are for another task, or for models of another kind."""
    task = config.parameters.task
    if manifest.task != task:
        raise InputError(f"{source}: the model is for the task {manifest.task}, and the settings are for {task}")
    if task == "photographs" and config.model_training.one_hot_encoding != (manifest.type is None):
        kind = "of all types" if manifest.type is None else f"of the type {manifest.type} alone"
        raise InputError(
            f"{source}: the model is one {kind}; set model_training.one_hot_encoding: {manifest.type is None}"
        )


def _is_same(config: Config, unpacked: StoredModel) -> bool:
    try:
        return load_stored(config, unpacked.owner).record_sha256 == unpacked.record_sha256
    except ModelError:
        return False


def _keep_replaced(config: Config, owner: str | None, root: Path) -> None:
    """Write the model that is there into a model file, and remove its own files. A damaged one cannot be kept."""
    try:
        stored = load_stored(config, owner)
    except ModelError as error:
        _log.warning("%s; it is replaced, and not kept", error)
        return
    name = re.sub(r"\W", "", stored.record.created.partition("+")[0])
    kept = root / REPLACED_FOLDER / f"{name}_{stored.record.record_sha256[:8]}{MODEL_FILE_ENDING}"
    write_model_file(kept, stored, task=config.parameters.task)
    _log.info("%s: the model that was there is kept as %s", owner or config.paths.component, kept)
    ownership.remove(stored.record_file)
    for file in stored.record.files:
        ownership.remove(stored.folder / file)


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)
