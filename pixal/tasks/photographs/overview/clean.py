"""``pixal clean``: remove what a command makes again, and say before what that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pixal.config.paths import CANDIDATES_FOLDER
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.locking import lock_folder
from pixal.tasks.photographs.preprocessing.folders import INPUT, OutputFolder
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batches import Batches, StoredBatch
from pixal.tasks.photographs.verdicts.verdict_store import ROWS_FILE
from pixal.train_model.stored_model import trained_types

_SUMS = "sums.npz"


@dataclass(frozen=True)
class CleanItem:
    """Files that one command makes again.

    Attributes:
        what: What they are.
        files: The files. PIXAL wrote all of them.
        size: Their size in bytes.
        command: The command that makes them again.
        kept: Why they stay; "" if they can be removed.
    """

    what: str
    files: tuple[Path, ...]
    size: int
    command: str
    kept: str = ""


@dataclass(frozen=True)
class Cleaning:
    """The result of ``pixal.clean``: files that can be made again, and whether they were removed.

    Attributes:
        items: What can be made again.
        removed: Whether it was removed.
    """

    items: tuple[CleanItem, ...]
    removed: bool = False

    @property
    def size(self) -> int:
        """Size in bytes of what can be removed."""
        return sum(item.size for item in self.items if not item.kept)

    def summary(self) -> str:
        """The items that can be removed, one per line, and the next command."""
        if not self.items:
            return "there is nothing to remove"
        lines = [_line(item) for item in self.items]
        if self.removed:
            return "\n".join([*lines, f"removed {_megabytes(self.size)}"])
        advice = "nothing was removed; pixal clean --yes removes it" if self.size else "nothing can be removed"
        return "\n".join([*lines, f"{_megabytes(self.size)} in all; {advice}"])


def clean(config: PhotographConfig, *, maps: bool, remove: bool) -> Cleaning:
    """Find what can be made again, and remove it if asked. See ``pixal.clean``."""
    paths = config.paths
    roots = [paths.resolve("component_model_path"), paths.resolve("component_validate_path")]
    with ExitStack() as locks:
        for root in roots if remove else ():
            if root.is_dir():
                locks.enter_context(lock_folder(root))
        items = tuple(item for item in _items(config, maps=maps) if item.files)
        if remove:
            owners = [None] if config.model_training.one_hot_encoding else trained_types(config)
            for owner in owners:
                locks.enter_context(lock_folder(paths.resolve("component_model_path", owner)))
            for path in (path for item in items if not item.kept for path in item.files):
                ownership.remove(path)
            _remove_empty_folders(items)
    return Cleaning(items, removed=remove)


def _items(config: PhotographConfig, *, maps: bool) -> Iterator[CleanItem]:
    owners: Sequence[str | None] = [None] if config.model_training.one_hot_encoding else trained_types(config)
    for owner in owners:
        yield from _prepared(OutputFolder(owner, config))
    folder = config.paths.resolve("component_model_path") / CANDIDATES_FOLDER
    yield _item("models that compare has trained", _owned([folder]), "compare")
    batches = Batches(config.paths)
    newest = batches.newest()
    for batch in [*batches.kept(), *([] if newest is None else [newest])]:
        yield from _of_batch(batch, config.preprocessing.preprocessor.file_name, maps=maps)


def _prepared(output: OutputFolder) -> Iterator[CleanItem]:
    """The images that ``preprocess`` has written between the photographs and the model input of trained types."""
    try:
        record = output.read(INPUT)
    except InputError:  # it was not run to its end, and would resume from these images
        return
    sources = [Path(image.source) for name in record.types for image in record.images(name)]
    for name in record.types:
        folder = OutputFolder(name, output.config)
        files = _owned([folder.background_removed, folder.aligned])
        yield _item(f"{name}: cut-out and aligned photographs", files, "preprocess", sources)


def _of_batch(batch: StoredBatch, file_name: str, *, maps: bool) -> Iterator[CleanItem]:
    verdicts = list(batch.verdicts())
    for name in batch.record.types:
        sources = [Path(verdict.source) for type_name, verdict in verdicts if type_name == name]
        folder, metadata = batch.type_folder(name), batch.paths.resolve("validate_metadata_path", name)
        inputs = [folder / file_name, folder / ROWS_FILE, metadata / _SUMS]
        where, command = f"batch {batch.record.name}, {name}", f"validate --batch {batch.record.name}"
        yield _item(f"{where}: model inputs", [path for path in inputs if _is_own(path)], command, sources)
        if maps:
            files = _owned([batch.paths.resolve("validate_anomaly_maps_path", name)])
            yield _item(f"{where}: anomaly maps", files, command, sources)


def _item(what: str, files: Iterable[Path], command: str, sources: Sequence[Path] = ()) -> CleanItem:
    """An item. It stays if a photograph that it was made of is gone."""
    found = tuple(files)
    gone = [path for path in sources if not path.is_file()] if found else []
    kept = f"{len(gone)} of its {len(sources)} photographs are gone, for example {gone[0]}" if gone else ""
    return CleanItem(what, found, sum(path.stat().st_size for path in found), f"pixal {command}", kept)


def _owned(folders: Iterable[Path]) -> list[Path]:
    """The files below some folders that PIXAL wrote."""
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*")) if _is_own(path)]


def _is_own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.name != ownership.MANIFEST and ownership.owns(path)


def _remove_empty_folders(items: Sequence[CleanItem]) -> None:
    folders = {path.parent for item in items for path in item.files}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not ownership.is_claimed(folder) and not any(folder.iterdir()):
            folder.rmdir()


def _line(item: CleanItem) -> str:
    count = f"{len(item.files)} file{'' if len(item.files) == 1 else 's'}"
    end = f"kept: {item.kept}" if item.kept else f"made again by {item.command}"
    return f"{_megabytes(item.size):>10}  {item.what} ({count}; {end})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
