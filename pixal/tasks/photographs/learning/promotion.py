"""Put a candidate in place of the model in use, or an earlier model back. Nothing of the replaced model is lost."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pixal.config.paths import LEARNING_FOLDER, PathEntry, Paths
from pixal.errors import InputError, ModelError, nearest_hint
from pixal.io import ownership
from pixal.io.handover import Move, hand_over, plan_move
from pixal.io.locking import lock_folder
from pixal.io.output_folders import Side, claim_outputs
from pixal.io.records import read_record, write_record
from pixal.outcome import WithoutVerdicts
from pixal.tasks.photographs.learning.accepted import ACCEPTED_FOLDER
from pixal.tasks.photographs.learning.candidate import candidate_config, model_owners
from pixal.tasks.photographs.learning.learning_status import CANDIDATE
from pixal.tasks.photographs.learning.trial import (
    load_both,
    run_trial,
    stored_recommendation,
    trial_key,
)
from pixal.tasks.photographs.learning.trial_results import Recommendation
from pixal.tasks.photographs.sensitivity.plan import Budget
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import load_trained
from pixal.train_model.model_file.archive import MODEL_FILE_ENDING
from pixal.train_model.model_file.importing import REPLACED_FOLDER
from pixal.train_model.stored_model import MODEL_RECORD

_log = logging.getLogger(__name__)

EARLIER = "earlier"
PROMOTIONS = "promotions.yaml"

_SIDE: Side = "component_model_path"
_STAYING: tuple[PathEntry, ...] = (
    *("background_removed_path", "aligned_images_path", "aligned_metrics_path", "log_path", "latents_path"),
)
_MOVING: tuple[PathEntry, ...] = (_SIDE, "model_path", "metadata_path", "figures_path")
_STAYING_FILES = (PROMOTIONS, "comparison.yaml", "comparison.csv", "comparison.png")


@dataclass
class Promotion(WithoutVerdicts):
    """What ``promote`` did.

    Attributes:
        lines: What there is to say, one line or table each.
    """

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The lines."""
        return "\n".join(self.lines)


def promote(
    types: Sequence[str] | None,
    config: PhotographConfig,
    budget: Budget,
    *,
    check: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> Promotion:
    """Compare candidates with the models in use, and, unless ``check``, put them in place. See ``pixal.promote``."""
    result = Promotion()
    for owner in _with_candidate(types, config):
        label = owner or config.paths.component
        models = load_both(owner, config)
        found = stored_recommendation(owner, config, trial_key(models, config, budget))
        if check or found is None:
            with _locked([owner], config):
                trial = run_trial(owner, config, budget, quiet=quiet)
            result.lines.append(trial.summary())
            found = trial.recommendation
        if check:
            continue
        _refuse_worse(label, found, config, owner, force)
        with _exclusive(owner, list(models[CANDIDATE].states), config):
            name = _replace(owner, candidate_config(config).paths, config, list(models[CANDIDATE].states))
            _note(owner, config, "candidate", name, [found.sentence, *found.reasons])
        again = f"pixal promote{f' {owner}' if owner else ''} --back"
        result.lines.append(f"{label}: the candidate is in use now; the model before is kept as {name} ({again})")
    return result


def go_back(types: Sequence[str] | None, name: str | None, config: PhotographConfig) -> Promotion:
    """Put earlier models back in place of those in use.

    Args:
        types: The types; None: all that have earlier models.
        name: Name of the earlier model; None: the one that was in use before.
        config: The settings.

    Raises:
        InputError: There is no such model.
    """
    result = Promotion()
    owners = model_owners(config, types)
    if types is None:
        owners = [owner for owner in owners if earlier_models(owner, config)]
    if not owners:
        raise InputError("there are no earlier models; promote keeps the model that it replaces")
    for owner in owners:
        label, chosen = owner or config.paths.component, _chosen(owner, name, config)
        source = config.paths.for_learning(f"{EARLIER}/{chosen}")
        states = list(load_trained(replace(config, paths=source), owner).states)
        with _exclusive(owner, states, config):
            replaced = _replace(owner, source, config, states)
            _note(owner, config, chosen, replaced, ["asked for by --back"])
        result.lines.append(f"{label}: {chosen} is in use again; the model before is kept as {replaced}")
    return result


def list_models(types: Sequence[str] | None, config: PhotographConfig) -> Promotion:
    """The models of each type: in use, candidate, earlier ones, and the files of those that ``import`` replaced."""
    result = Promotion()
    for owner in model_owners(config, types):
        result.lines.append(owner or config.paths.component)
        found = {"in use": config.paths, CANDIDATE: candidate_config(config).paths}
        found |= {name: config.paths.for_learning(f"{EARLIER}/{name}") for name in earlier_models(owner, config)}
        for name, paths in found.items():
            with suppress(InputError):
                record = read_record(paths.resolve("metadata_path", owner) / MODEL_RECORD)
                result.lines.append(
                    f"  {name:<32} {record.get('model')}, {record.get('n_images')} good parts, trained "
                    f"{str(record.get('created'))[:16].replace('T', ' ')}"
                )
        for path in sorted((config.paths.resolve(_SIDE, owner) / REPLACED_FOLDER).glob(f"*{MODEL_FILE_ENDING}")):
            result.lines.append(f"  {path.name:<32} replaced by import; back with: pixal import --force {path}")
    return result


def earlier_models(owner: str | None, config: PhotographConfig) -> list[str]:
    """The names of the earlier models, the oldest first."""
    folder = config.paths.resolve(_SIDE) / LEARNING_FOLDER / EARLIER
    names = [path.name for path in sorted(folder.glob("*")) if path.is_dir()]
    paths = {name: config.paths.for_learning(f"{EARLIER}/{name}") for name in names}
    return [name for name in names if (paths[name].resolve("metadata_path", owner) / MODEL_RECORD).is_file()]


def _with_candidate(types: Sequence[str] | None, config: PhotographConfig) -> list[str | None]:
    """The models that the user named, or else all that have a candidate."""
    owners = model_owners(config, types)
    if types:
        return owners
    metadata = {owner: candidate_config(config).paths.resolve("metadata_path", owner) for owner in owners}
    found = [owner for owner in owners if (metadata[owner] / MODEL_RECORD).is_file()]
    if not found:
        raise ModelError("there is no candidate; run train --candidate first")
    return found


def _refuse_worse(label: str, found: Recommendation, config: PhotographConfig, owner: str | None, force: bool) -> None:
    if found.verdict == "keep" and not force:
        page = candidate_config(config).paths.resolve(_SIDE, owner) / "promotion.html"
        raise InputError(
            f"{label}: the candidate is not promoted: {' '.join(found.reasons)} See {page}; --force promotes it anyway"
        )


@contextmanager
def _locked(owners: Sequence[str | None], config: PhotographConfig) -> Iterator[None]:
    """Lock the candidates, so that none is trained while it is compared."""
    with ExitStack() as locks:
        for owner in owners:
            locks.enter_context(lock_folder(candidate_config(config).paths.resolve(_SIDE, owner)))
        yield


@contextmanager
def _exclusive(owner: str | None, types: Sequence[str], config: PhotographConfig) -> Iterator[None]:
    """Lock and claim the folders of the model in use, and lock the candidate."""
    owners = _owners(owner, types)
    with ExitStack() as locks:
        for name in owners:
            locks.enter_context(lock_folder(config.paths.resolve(_SIDE, name)))
        locks.enter_context(_locked([owner], config))
        claim_outputs(config.paths, _SIDE, owners)
        yield


def _owners(owner: str | None, types: Sequence[str]) -> list[str | None]:
    return [owner] if owner is not None else [None, *types]


def _replace(owner: str | None, source: Paths, config: PhotographConfig, types: Sequence[str]) -> str:
    """Move the model in use out, and that of ``source`` in. Return the name of the one that was in use.

    What moves is written down first. If the process is killed, the next command that needs the model completes it.
    """
    name = _free_name(owner, config)
    target = config.paths.for_learning(f"{EARLIER}/{name}")
    owners = _owners(owner, types)
    moves = [*model_files(config.paths, target, owners), *model_files(source, config.paths, owners)]
    hand_over(config.paths.resolve(_SIDE, owner), moves)
    return name


def model_files(source: Paths, target: Paths, owners: Sequence[str | None]) -> list[Move]:
    """The files that belong to a model, in ``source``, and where they are in ``target``.

    Photographs, accepted parts, logs and what is about all models of a type stay.
    """
    moves = []
    for owner in owners:
        staying = [source.resolve(entry, owner) for entry in _STAYING]
        staying += [source.resolve(_SIDE, owner) / name for name in (ACCEPTED_FOLDER, REPLACED_FOLDER)]
        folders: dict[Path, Path] = {}
        for entry in _MOVING:
            old = source.resolve(entry, owner)
            if not any(old.is_relative_to(outer) for outer in folders):
                folders[old] = target.resolve(entry, owner)
        for old, new in folders.items():
            if not ownership.is_claimed(old):
                continue
            stay = [
                path
                for path in ownership.files_of(old)
                if path.name in _STAYING_FILES or any(path.is_relative_to(folder) for folder in staying)
            ]
            moves.append(plan_move(old, new, stay=stay))
    return moves


def _free_name(owner: str | None, config: PhotographConfig) -> str:
    """A name for the model in use among the earlier ones: when it was trained, and its family."""
    record = load_trained(config, owner).record
    name = f"{record.created[:19].replace(':', '-')}_{record.model}"
    taken = set(earlier_models(owner, config))
    numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    return next(free for free in (name, *numbered) if free not in taken)


def _chosen(owner: str | None, name: str | None, config: PhotographConfig) -> str:
    known = earlier_models(owner, config)
    label = owner or config.paths.component
    if name is not None:
        if name not in known:
            names = ", ".join(known) or "none"
            raise InputError(f"{label} has no earlier model {name} (earlier: {names}){nearest_hint(name, known)}")
        return name
    if not known:
        raise InputError(f"{label} has no earlier model; promote keeps the model that it replaces")
    noted = [str(entry.get("replaced")) for entry in _promotions(owner, config)]
    return next((name for name in reversed(noted) if name in known), known[-1])


def _promotions(owner: str | None, config: PhotographConfig) -> list[dict[str, Any]]:
    with suppress(InputError):
        entries = read_record(config.paths.resolve(_SIDE, owner) / PROMOTIONS).get("promotions")
        return [entry for entry in entries or [] if isinstance(entry, dict)]
    return []


def _note(owner: str | None, config: PhotographConfig, what: str, replaced: str, why: Sequence[str]) -> None:
    """Note which model replaced which, when, by whom and why."""
    record = load_trained(config, owner).record
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        user = ""
    entry = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "by": user,
        "model": what,
        "record_sha256": record.record_sha256,
        "replaced": replaced,
        "why": list(why),
    }
    path: Path = config.paths.resolve(_SIDE, owner) / PROMOTIONS
    write_record(path, {"promotions": [*_promotions(owner, config), entry]})
