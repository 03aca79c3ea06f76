"""The preprocessing commands: from photographs to ``out.npz``.

Each command runs one step for every type; ``preprocess`` runs all three. A step skips work that is already
done on the same files with the same settings, unless ``force`` is true.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pixal.config.paths import DEFAULT_ENTRIES
from pixal.errors import InputError
from pixal.execution import Submit, check_cluster, in_background
from pixal.io.files import file_hash
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.names import comparable
from pixal.io.output_folders import Side, check_outputs, claim_outputs, remove_unfinished
from pixal.outcome import Outcome
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.foreground.methods import available_methods
from pixal.tasks.photographs.learning.accepted import AcceptedParts
from pixal.tasks.photographs.preprocessing.alignment_step import align_type
from pixal.tasks.photographs.preprocessing.background_step import CutOut, remove_backgrounds
from pixal.tasks.photographs.preprocessing.fitting import fit_state
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    Entry,
    OutputFolder,
    Record,
    Step,
    TypeFolder,
    planned_files,
)
from pixal.tasks.photographs.preprocessing.input_step import write_inputs
from pixal.tasks.photographs.preprocessing.kept_images import KeptImages
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.stored_model import trained_types

_log = logging.getLogger(__name__)

_SIDE: Side = "component_model_path"


def preprocess(
    input_dir: str | Path,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.preprocess``."""
    photographs = _list_photographs(input_dir, config)
    with _exclusive_run(config, photographs), in_background() as submit:
        kept = KeptImages() if config.execution.backend == "threads" else None
        outcome, cut_outs = _remove_backgrounds(input_dir, photographs, config, force, quiet)
        outcome = outcome.followed_by(_align(input_dir, config, cut_outs, submit, force, quiet, kept))
        return outcome.followed_by(_make_input(input_dir, config, submit, force, quiet, kept))


def remove_bg(
    input_dir: str | Path,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.remove_bg``."""
    photographs = _list_photographs(input_dir, config)
    with _exclusive_run(config, photographs):
        outcome, _ = _remove_backgrounds(input_dir, photographs, config, force, quiet)
    return outcome


def align(
    input_dir: str | Path | None = None,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.align``."""
    with _exclusive_run(config, _find_names(input_dir, config, BACKGROUND)), in_background() as submit:
        return _align(input_dir, config, {}, submit, force, quiet)


def make_input(
    input_dir: str | Path | None = None,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.make_input``."""
    with _exclusive_run(config, _find_names(input_dir, config, ALIGNMENT)), in_background() as submit:
        return _make_input(input_dir, config, submit, force, quiet)


def _list_photographs(input_dir: str | Path, config: PhotographConfig) -> dict[str, list[Photograph]]:
    """List the photographs. Raise ``InputError`` where the outputs would be among them, or overwrite other files."""
    photographs = list_photographs(input_dir)
    refuse_folder_above(input_dir, photographs, config.paths.component)
    files = [photo.path for photos in photographs.values() for photo in photos]
    photographs = {name: with_accepted(photos, name, config) for name, photos in photographs.items()}
    planned = [
        path
        for name, photos in photographs.items()
        for path in planned_files(TypeFolder(name, config), [photo.name for photo in photos])
    ]
    check_outputs(config.paths, _SIDE, list(photographs), source=input_dir, files=files, planned=planned)
    check_cluster(config.execution, reads=[Path(input_dir)], writes=[config.paths.resolve(_SIDE)])
    return photographs


def refuse_folder_above(source: str | Path, photographs: dict[str, list[Photograph]], component: str) -> None:
    """Raise ``InputError`` where ``source`` is the folder above that of the component: its types would become one."""
    folder = Path(source) / component
    photos = photographs.get(component, [])
    if folder.is_dir() and photos and all(photo.path.parent.name != component for photo in photos):
        names = sorted({photo.path.parent.name for photo in photos})
        raise InputError(
            f"{source} holds the folder of the component {component}, whose sub-folders ({', '.join(names[:3])}) are "
            f"its types; use -i {folder}"
        )


def with_accepted(photographs: list[Photograph], type_name: str, config: PhotographConfig) -> list[Photograph]:
    """Add the photographs that ``accept`` has taken over for training, except those that are there already."""
    accepted = AcceptedParts.read(config.paths, type_name).photographs()
    sizes = {photo.path.stat().st_size for photo in accepted if photo.path.is_file()}
    same_size = [photo.path for photo in photographs if photo.path.is_file() and photo.path.stat().st_size in sizes]
    known = {file_hash(path) for path in same_size}
    new = [photo for photo in accepted if not photo.path.is_file() or file_hash(photo.path) not in known]
    if new:
        _log.info("%s: with %d accepted photographs", type_name, len(new))
    return [*photographs, *new]


@contextmanager
def _exclusive_run(config: PhotographConfig, names: Iterable[str]) -> Iterator[None]:
    """Claim and lock the component for this run, and the folders of the types, which ``train`` locks.

    Raises:
        InputError: If another run holds a lock, or the output folders cannot be used.
    """
    trained_types(config)  # completes a change of a model that was interrupted
    owners: list[str | None] = list(names)
    if config.model_training.one_hot_encoding:
        _check_names(names)
        owners.insert(0, None)
    check_outputs(config.paths, _SIDE, owners)
    with ExitStack() as locks:
        for name in dict.fromkeys((None, *owners)):
            locks.enter_context(lock_folder(config.paths.resolve("component_model_path", name)))
        claim_outputs(config.paths, _SIDE, owners)
        remove_unfinished(config.paths, _SIDE, owners)
        yield


def _check_names(names: Iterable[str]) -> None:
    """One model for all types is stored next to their folders. Raise ``InputError`` for a type that would share one."""
    folders = {path.split("/")[0] for base, path in DEFAULT_ENTRIES.values() if base == _SIDE}
    for name in names:
        if comparable(name) in folders:
            raise InputError(
                f"where one model serves all types (one_hot_encoding), a type cannot be called {name}, because the "
                "component has a folder of that name; rename the folder of the type"
            )


def _remove_backgrounds(
    input_dir: str | Path,
    photographs: Mapping[str, list[Photograph]],
    config: PhotographConfig,
    force: bool,
    quiet: bool,
) -> tuple[Outcome, dict[str, dict[str, CutOut]]]:
    """Run the first step; return the outcome, and the new cut-out photographs, by type and file name."""
    available_methods(config.preprocessing.remove_background)  # raises before any type is processed
    outcome = Outcome()
    cut_outs = {}
    for name, photos in photographs.items():
        done, cut_outs[name] = remove_backgrounds(TypeFolder(name, config), photos, force=force, quiet=quiet)
        outcome = outcome.combined_with(done)
    return outcome.require_done(input_dir), cut_outs


def _align(
    input_dir: str | Path | None,
    config: PhotographConfig,
    cut_outs: Mapping[str, Mapping[str, CutOut]],
    submit: Submit,
    force: bool,
    quiet: bool,
    kept: KeptImages | None = None,
) -> Outcome:
    outcome = Outcome()
    folders = _find_types(input_dir, config, BACKGROUND)
    reference = config.preprocessing.alignment.reference
    _warn_of_unknown_types("alignment.reference", reference if isinstance(reference, dict) else (), folders)
    for folder in folders:
        outcome = outcome.combined_with(
            align_type(folder, cut_outs.get(folder.name, {}), submit, force=force, quiet=quiet, kept=kept)
        )
    return outcome.require_done(input_dir)


def _make_input(
    input_dir: str | Path | None,
    config: PhotographConfig,
    submit: Submit,
    force: bool,
    quiet: bool,
    kept: KeptImages | None = None,
) -> Outcome:
    folders = _find_types(input_dir, config, ALIGNMENT)
    one_hot = config.model_training.one_hot_encoding
    if one_hot:  # one model serves all types of the component, whichever type was named
        folders = _find_types(None, config, ALIGNMENT)
        claim_outputs(config.paths, _SIDE, [folder.name for folder in folders])
    settings = config.preprocessing.preprocessor
    _warn_of_unknown_types("preprocessor.mask", settings.mask if isinstance(settings.mask, dict) else (), folders)
    _warn_of_unknown_types("preprocessor.ignore_regions", settings.ignore_regions, folders)
    states = {}
    for folder in folders:
        with log_to_file(folder.logs, "make_input"):
            states[folder.name] = fit_state(folder, submit, force=force)
    if one_hot:
        outcome = write_inputs(OutputFolder(None, config), folders, states, submit, force=force, quiet=quiet, kept=kept)
        return outcome.require_done(input_dir)
    outcome = Outcome()
    for folder in folders:
        state = {folder.name: states[folder.name]}
        outcome = outcome.combined_with(
            write_inputs(folder, [folder], state, submit, force=force, quiet=quiet, kept=kept)
        )
    return outcome.require_done(input_dir)


def _warn_of_unknown_types(setting: str, names: Iterable[str], folders: Sequence[TypeFolder]) -> None:
    """Log a warning for each type in a setting that does not exist: a misspelled name would have no effect."""
    known = [folder.name for folder in folders]
    for name in names:
        if name not in known:
            message = "preprocessing.%s names the type %s, which does not exist; the types are %s"
            _log.warning(message, setting, name, ", ".join(known))


def _find_names(input_dir: str | Path | None, config: PhotographConfig, before: Step[Record, Entry]) -> list[str]:
    """Names of the types to process; see ``_find_types``."""
    return [folder.name for folder in _find_types(input_dir, config, before)]


def _find_types(
    input_dir: str | Path | None, config: PhotographConfig, before: Step[Record, Entry]
) -> list[TypeFolder]:
    """The types to process: those below ``input_dir`` (None: all) for which the step ``before`` has ended.

    A type that a step has left out (none of its photographs could be processed) is left out here, too.

    Raises:
        InputError: If a type was not processed at all, or there is no type to process.
    """
    root = config.paths.resolve("component_model_path").resolve()
    if input_dir is None or Path(input_dir).resolve() == root:
        names = [path.name for path in sorted(root.glob("*")) if TypeFolder(path.name, config).has(BACKGROUND)]
    elif Path(input_dir).resolve().is_relative_to(root):
        names = [Path(input_dir).resolve().relative_to(root).parts[0]]
    else:
        names = list(list_photographs(input_dir))
    folders = [TypeFolder(name, config) for name in names]
    unknown = [folder.name for folder in folders if not folder.has(BACKGROUND)]
    ready = [folder for folder in folders if folder.has(before)]
    if unknown or not ready:
        type_name = unknown[0] if unknown else ", ".join(names) or "no type"
        raise InputError(
            f"{type_name}: {root} holds no results of {before.command} for it; "
            f"run {before.command}, or preprocess, first"
        )
    return ready
