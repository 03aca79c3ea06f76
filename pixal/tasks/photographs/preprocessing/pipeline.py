"""The preprocessing commands: from photographs to ``out.npz``.

Each command is one step over every type; the steps themselves are in ``run_background``, ``run_alignment`` and
``run_input``. What a step has made of the same bytes with the same settings is not made again (``force``: it is).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixal.errors import InputError
from pixal.execution import Submit, in_background
from pixal.io.logs import log_to_file
from pixal.outcome import Outcome
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.foreground.methods import choose_method
from pixal.tasks.photographs.preprocessing.alignment_step import align_type
from pixal.tasks.photographs.preprocessing.background_step import CutOut, remove_backgrounds
from pixal.tasks.photographs.preprocessing.folders import ALIGNMENT_RECORD, BACKGROUND_RECORD, TypeFolder
from pixal.tasks.photographs.preprocessing.input_step import fit_state, write_inputs
from pixal.tasks.photographs.settings import PhotographConfig

_log = logging.getLogger(__name__)


def preprocess(
    input_dir: str | Path,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.preprocess``."""
    outcome, cut_outs = _remove_backgrounds(input_dir, config, force, quiet)
    with in_background() as draw:
        outcome = outcome.followed_by(_align(input_dir, config, cut_outs, draw, force, quiet))
        return outcome.followed_by(_make_input(input_dir, config, draw, force, quiet))


def remove_bg(
    input_dir: str | Path,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.remove_bg``."""
    outcome, _ = _remove_backgrounds(input_dir, config, force, quiet)
    return outcome


def align(
    input_dir: str | Path | None = None,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.align``."""
    with in_background() as draw:
        return _align(input_dir, config, {}, draw, force, quiet)


def make_input(
    input_dir: str | Path | None = None,
    *,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.make_input``."""
    with in_background() as draw:
        return _make_input(input_dir, config, draw, force, quiet)


def _remove_backgrounds(
    input_dir: str | Path, config: PhotographConfig, force: bool, quiet: bool
) -> tuple[Outcome, dict[str, dict[str, CutOut]]]:
    """The outcome, and the masks just made, by type and file."""
    settings = config.preprocessing.remove_background
    photographs = list_photographs(input_dir)
    chosen = choose_method(settings)
    if settings.method == "auto":
        here = chosen.method == "rembg"
        why = "its model file is here" if here else f"no model file of rembg's {settings.model} is here"
        _log.info("background method: %s (auto: %s)", chosen.method, why)
    outcome = Outcome()
    cut_outs = {}
    for name, photos in photographs.items():
        done, cut_outs[name] = remove_backgrounds(TypeFolder(name, config), photos, chosen, force=force, quiet=quiet)
        outcome = outcome.combined_with(done)
    return outcome.require_done(input_dir), cut_outs


def _align(
    input_dir: str | Path | None,
    config: PhotographConfig,
    cut_outs: Mapping[str, Mapping[str, CutOut]],
    draw: Submit,
    force: bool,
    quiet: bool,
) -> Outcome:
    outcome = Outcome()
    folders = _types(input_dir, config, BACKGROUND_RECORD, "remove_bg")
    _note_unknown_types("alignment.reference", config.preprocessing.alignment.reference, folders)
    for folder in folders:
        outcome = outcome.combined_with(
            align_type(folder, cut_outs.get(str(folder.name), {}), draw, force=force, quiet=quiet)
        )
    return outcome.require_done(input_dir)


def _make_input(
    input_dir: str | Path | None, config: PhotographConfig, draw: Submit, force: bool, quiet: bool
) -> Outcome:
    folders = _types(input_dir, config, ALIGNMENT_RECORD, "align")
    one_hot = config.model_training.one_hot_encoding
    if one_hot:  # one model serves every type of the component, whichever was named
        folders = _types(None, config, ALIGNMENT_RECORD, "align")
    settings = config.preprocessing.preprocessor
    _note_unknown_types("preprocessor.mask", settings.mask, folders)
    _note_unknown_types("preprocessor.ignore_regions", settings.ignore_regions, folders)
    states = {}
    for folder in folders:
        with log_to_file(folder.logs, "make_input"):
            states[str(folder.name)] = fit_state(folder, draw, force=force)
    outcome = Outcome()
    owners = [TypeFolder(None, config)] if one_hot else folders
    for owner in owners:
        members = folders if one_hot else [owner]
        own = {str(folder.name): states[str(folder.name)] for folder in members}
        outcome = outcome.combined_with(write_inputs(owner, members, own, draw, force=force, quiet=quiet))
    return outcome.require_done(input_dir)


def _note_unknown_types(key: str, setting: Any, folders: list[TypeFolder]) -> None:
    """Say so where a setting a type names one that is not here: misspelt, it would be without effect."""
    here = [str(folder.name) for folder in folders]
    for name in setting if isinstance(setting, dict) else ():
        if name not in here:
            _log.warning("preprocessing.%s names the type %s; the types here are %s", key, name, ", ".join(here))


def _types(input_dir: str | Path | None, config: PhotographConfig, record: str, before: str) -> list[TypeFolder]:
    """The types to go on with: those below ``input_dir``, or all that the step ``before`` left its ``record`` of.

    A type that the first step knows but a later one had to leave out stays out. Raises InputError for one that no step
    has seen.
    """
    root = config.paths.resolve("component_model_path").resolve()
    if input_dir is None or Path(input_dir).resolve() == root:
        wanted = [path.name for path in sorted(root.glob("*")) if TypeFolder(path.name, config).has(BACKGROUND_RECORD)]
    elif Path(input_dir).resolve().is_relative_to(root):
        wanted = [Path(input_dir).resolve().relative_to(root).parts[0]]
    else:
        wanted = list(list_photographs(input_dir))
    folders = [TypeFolder(name, config) for name in wanted]
    unseen = [folder.name for folder in folders if not folder.has(BACKGROUND_RECORD)]
    ready = [folder for folder in folders if folder.has(record)]
    if unseen or not ready:
        what = unseen[0] if unseen else ", ".join(wanted) or "no type"
        raise InputError(f"{what}: {root} holds nothing that {before} made of it; run {before}, or preprocess, first")
    return ready
