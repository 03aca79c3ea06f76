"""The command ``accept``: marks become training photographs and known defects."""

from __future__ import annotations

import getpass
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.errors import InputError, ModelError, PixalError
from pixal.io import ownership
from pixal.io.files import data_hash, write_bytes
from pixal.io.images import read_image_bytes
from pixal.io.locking import lock_folder
from pixal.io.names import shorten_stem
from pixal.io.output_folders import claim_outputs
from pixal.outcome import Failure
from pixal.tasks.photographs.learning.acceptance import Acceptance
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts, Kind, PhotographBox
from pixal.tasks.photographs.learning.cut_outs import boxes_in_reference, write_cut_outs
from pixal.tasks.photographs.preprocessing.folders import BACKGROUND, TypeFolder
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import state_file
from pixal.tasks.photographs.verdicts.batches import Batches
from pixal.tasks.photographs.verdicts.history import open_history
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict
from pixal.train_model.stored_model import trained_types

if TYPE_CHECKING:
    from pixal.database.stored_marks import Mark

_log = logging.getLogger(__name__)

Verdicts = Mapping[tuple[str, str], StoredVerdict]
"""The stored verdicts of a type, by batch and name of the photograph."""


def accept(
    marks: str | Path | None = None,
    types: Sequence[str] | None = None,
    *,
    confirmed: bool = False,
    config: PhotographConfig,
) -> Acceptance:
    """See ``pixal.accept``."""
    from pixal.database.stored_marks import read_marks

    known = trained_types(config)
    _check_types(types, known)
    store = open_history(config.paths, marks)
    with store.reading() as connection:
        found = read_marks(connection, tuple(types or ()))
    by_type: dict[str, list[Mark]] = {name: [] for name in types or ()}
    for mark in found:
        by_type.setdefault(mark.type, []).append(mark)
    result = Acceptance(config.paths.component)
    for name, of_type in sorted(by_type.items()):
        if name not in known:
            result.failures += [Failure(name, mark.image, "accept", "its type has no model") for mark in of_type]
            continue
        with _exclusive(config, [name]):
            _TypeAcceptance(name, config, result, confirmed=confirmed).run(of_type)
    return result


def undo(run: int | None = None, types: Sequence[str] | None = None, *, config: PhotographConfig) -> Acceptance:
    """Remove what a run of ``accept`` has added.

    Args:
        run: Number of the run; None: the last one of each type.
        types: The types; None: all.
        config: The settings.

    Raises:
        InputError: There is no such run.
    """
    known = trained_types(config)
    _check_types(types, known)
    result = Acceptance(config.paths.component)
    for name in types or known:
        if not AcceptedParts.read(config.paths, name).record.parts:
            continue
        with _exclusive(config, [name]):
            accepted = AcceptedParts.read(config.paths, name)
            number = max((part.run for part in accepted.record.parts), default=0) if run is None else run
            removed = [part for part in accepted.record.parts if part.run == number]
            if removed:
                result.removed[name] = removed
                result.totals[name] = _replace_parts(accepted, [], removed, accepted.record.runs + 1)
    if not result.removed:
        what = "nothing was accepted" if run is None else f"run {run} of accept has added no part that still counts"
        raise InputError(f"{what}; the runs are in {config.paths.resolve('component_model_path')}/TYPE/accepted")
    return result


class _TypeAcceptance:
    """Takes over the marks of one type."""

    def __init__(self, name: str, config: PhotographConfig, result: Acceptance, *, confirmed: bool) -> None:
        self._name, self._config, self._result, self._confirmed = name, config, result, confirmed
        self._accepted = AcceptedParts.read(config.paths, name)
        self._run = self._accepted.record.runs + 1
        self._now = _now()

    def run(self, marks: Sequence[Mark]) -> None:
        """Add and remove parts, so that the data sets hold what the marks say."""
        by_hash = {part.sha256: part for part in self._accepted.record.parts}
        verdicts = _stored_verdicts(self._config, self._name) if marks else {}
        training = _training_hashes(self._config, self._name)
        added: list[AcceptedPart] = []
        removed: list[AcceptedPart] = []
        seen: set[str] = set()
        complete = _complete_batches(marks, verdicts) if self._confirmed else set()
        for mark in reversed(marks):  # of several marks of one content, the newest counts
            verdict = _verdict_of(mark, verdicts)
            sha256 = mark.photograph or (verdict.record.sha256 if verdict else None)
            if sha256 in seen:
                continue
            if sha256:
                seen.add(sha256)
            before = by_hash.get(sha256 or "")
            if before is not None and _is_same(before, mark):
                continue
            if before is not None:
                removed.append(before)
            if not mark.mark or (mark.mark == "confirmed good" and not self._confirmed):
                continue
            if mark.is_good and sha256 in training:
                _log.info("%s/%s: is a training photograph already", self._name, mark.image)
                continue
            try:
                added.append(self._take_over(mark, verdict, sampled=mark.batch in complete))
            except PixalError as error:
                self._result.failures.append(Failure(self._name, mark.image, "accept", str(error)))
        added.reverse()
        if added or removed:
            self._accepted = _replace_parts(self._accepted, added, removed, self._run)
        self._result.added[self._name], self._result.removed[self._name] = added, removed
        self._result.totals[self._name] = self._accepted

    def _take_over(self, mark: Mark, verdict: StoredVerdict | None, *, sampled: bool) -> AcceptedPart:
        """Copy the photograph, and cut out its defects. Raise ``InputError`` if it is not there any more."""
        if verdict is None:
            raise InputError(f"no batch has this photograph any more (marked in batch {mark.batch})")
        source = Path(verdict.source)
        try:
            data = read_image_bytes(source)
        except InputError as error:
            raise InputError(f"{source} {error}") from error
        sha256 = data_hash(data)
        if sha256 != (mark.photograph or verdict.record.sha256):
            raise InputError(f"{source} is not the photograph that was marked; put that one back")
        kind: Kind = "good_parts" if mark.is_good else "known_defects"
        folder, stem = self._accepted.folder / kind, f"{shorten_stem(Path(mark.image).stem)}_{sha256[:8]}"
        file = f"{stem}{source.suffix.lower()}"
        boxes: tuple[PhotographBox, ...] = ()
        if not mark.is_good:
            found = _found_boxes(verdict) if mark.found_is_right or not mark.boxes else ()
            boxes = (*mark.boxes, *found)
        write_bytes(folder / file, data)
        reference_boxes: tuple[PhotographBox, ...] = ()
        cut_outs: tuple[str, ...] = ()
        frame = ""
        if boxes and verdict.record.has_pose and self._state is not None:
            frame = data_hash(self._state.reference.image.tobytes())
            reference_boxes = boxes_in_reference(boxes, verdict.record.homography, self._state)
            cut_outs = write_cut_outs(folder, stem, data, verdict.record.homography, self._state, reference_boxes)
        return AcceptedPart(
            kind=kind,
            file=file,
            sha256=sha256,
            image=mark.image,
            source=str(source),
            batch=mark.batch,
            mark=mark.mark,
            verdict=mark.verdict,
            score=mark.score,
            threshold=mark.threshold,
            made_by=mark.made_by,
            made_at=mark.made_at,
            comment=mark.comment,
            boxes=boxes,
            reference_boxes=reference_boxes,
            reference_sha256=frame,
            cut_outs=cut_outs,
            sampled=sampled and mark.is_good,
            accepted_by=_user(),
            accepted_at=self._now,
            run=self._run,
        )

    @cached_property
    def _state(self) -> PreprocessingState | None:
        """The preprocessing of the model in use; None if it is not there."""
        owner = None if self._config.model_training.one_hot_encoding else self._name
        with suppress(ModelError):
            return PreprocessingState.load(state_file(self._config.paths.resolve("model_path", owner), self._name))
        return None


def _check_types(types: Sequence[str] | None, known: Collection[str]) -> None:
    for name in types or ():
        if name not in known:
            raise InputError(f"type {name} was never trained (trained: {', '.join(known) or 'nothing'})")


def _exclusive(config: PhotographConfig, types: Sequence[str]) -> ExitStack:
    """Lock and claim the folders of types."""
    with ExitStack() as stack:
        for name in types:
            stack.enter_context(lock_folder(config.paths.resolve("component_model_path", name)))
        claim_outputs(config.paths, "component_model_path", types)
        return stack.pop_all()


def _replace_parts(
    accepted: AcceptedParts, added: Sequence[AcceptedPart], removed: Sequence[AcceptedPart], run: int
) -> AcceptedParts:
    """Write the record, then delete the files of parts that do not count any more: a kill in between loses none."""
    gone = {part.sha256 for part in removed}
    parts = [*(part for part in accepted.record.parts if part.sha256 not in gone), *added]
    replaced = accepted.write(parts, run=run, created=_now())
    kept = {path for part in parts for path in replaced.files(part)}
    for part in removed:
        for path in set(accepted.files(part)) - kept:
            ownership.remove(path)
    return replaced


def _stored_verdicts(config: PhotographConfig, type_name: str) -> Verdicts:
    batches = Batches(config.paths)
    newest = batches.newest()
    return {
        (batch.record.name, verdict.record.image): verdict
        for batch in (*batches.kept(), *([] if newest is None else [newest]))
        for name, verdict in batch.verdicts()
        if name == type_name
    }


def _verdict_of(mark: Mark, verdicts: Verdicts) -> StoredVerdict | None:
    """The stored verdict on the photograph that was marked: of its batch, or else of another one with the same file."""
    own = verdicts.get((mark.batch, mark.image))
    if own is not None and mark.photograph in ("", own.record.sha256):
        return own
    same = [
        verdict
        for (_, image), verdict in verdicts.items()
        if image == mark.image and mark.photograph and verdict.record.sha256 == mark.photograph
    ]
    return same[-1] if same else None


def _complete_batches(marks: Sequence[Mark], verdicts: Verdicts) -> set[str]:
    """The batches in which somebody has judged each verdict. All their good parts together are a sample."""
    judged = {(mark.batch, mark.image) for mark in marks if mark.mark}
    given = {key for key, verdict in verdicts.items() if verdict.part.verdict != "error"}
    return {batch for batch, _ in given} - {batch for batch, _ in given - judged}


def _training_hashes(config: PhotographConfig, type_name: str) -> set[str]:
    """The SHA-256 of the photographs that were prepared for training."""
    folder = TypeFolder(type_name, config)
    with suppress(InputError):
        return {str(record.sha256) for record in folder.read(BACKGROUND).images if record.sha256}
    return set()


def _is_same(part: AcceptedPart, mark: Mark) -> bool:
    """Whether a part was taken over from this mark, or another one that says the same."""
    if mark.is_good:
        return part.kind == "good_parts"
    return part.mark == mark.mark and set(mark.boxes) <= set(part.boxes)


def _found_boxes(verdict: StoredVerdict) -> tuple[PhotographBox, ...]:
    return tuple((region.x, region.y, region.width, region.height) for region in verdict.part.regions)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a name for its user
        return ""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
