"""Check the output folders of a command before it does any work, and claim them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pixal.config.paths import DEFAULT_ENTRIES, PathEntry, Paths
from pixal.errors import InputError
from pixal.io import ownership

Side = Literal["component_model_path", "component_validate_path"]
"""The root that a command writes below."""

_IMAGE_FOLDERS: tuple[PathEntry, PathEntry] = ("background_removed_path", "aligned_images_path")
_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
# Versions without manifests left one of these in a folder that they had written.
_EARLIER_RECORDS = (
    *("metadata/background.yaml", "metadata/background.journal", "metadata/preprocessing.yaml"),
    *("metadata/model_training.yaml", "metadata/judged.journal", "results.json", "benchmark.yaml"),
)
_EARLIER_FILES = (
    *("*.npz", "inputs.part", "results.csv", "results.json", "report.html", "metrics.json", "benchmark.yaml"),
    *("batch.yaml", "history.db", "history.html", "history.csv"),
    *("metadata/*.yaml", "metadata/*.journal", "metadata/*.npz", "metadata/*.csv", "logs/*.log", "latents/latents.*"),
    *("latents/manifest.csv", "model/*.keras", "model/**/*.h5", "model/**/*.npz", "model/**/*.npy"),
    *("preprocessed_images/*/*_no_bg.png", "preprocessed_images/*/*_aligned.png", "report/*.jpg"),
    *("report_images/*.jpg", "anomaly_maps/*.tiff", "figures/anomaly_overlay_*.png"),
    *("**/aligned_metrics/results.csv", "**/aligned_metrics/metrics.png", "**/aligned_metrics/*/*.jpg"),
)
_EARLIER_FIGURES = (
    *("loss", "accuracy", "reconstructions", "channels", "crop_preview", "consensus", "stacked_intensity"),
    *("evaluation_reconstructions", "combined_distribution", "combined_distribution_log", "pixel_loss_histogram"),
    *("value_distributions", "latent_space", "mse_per_pixel", "abs_loss_per_pixel", "anomaly_heatmap"),
    *("pixel_predictions_*", "roc_curve", "pr_curve", "confusion_matrix"),
)


def check_outputs(
    paths: Paths,
    side: Side,
    types: Sequence[str | None],
    *,
    source: str | Path | None = None,
    files: Iterable[Path] = (),
    planned: Iterable[Path] = (),
) -> None:
    """Check the folders that a command is going to write into. Nothing is written.

    Args:
        paths: The configured folders.
        side: The root below which the command writes.
        types: The types that it works on; None stands for the whole component.
        source: The photographs that the command reads, a folder or a file; None where it reads only what PIXAL wrote.
        files: The photographs themselves, where they are known.
        planned: Files that the command is going to write, as far as they are known.

    Raises:
        InputError: An output folder is, holds or lies in the folder of the photographs; two folders that must be
            separate are not; the folder of an output holds photographs that PIXAL did not write; or a planned file
            exists, and PIXAL did not write it.
    """
    _check_roots(paths, types)
    folders = output_folders(paths, side, types)
    if source is not None:
        _check_source(Path(source), files, folders)
    earlier: set[Path] = set()
    for folder in folders:
        if not ownership.is_claimed(folder):
            _check_new(folder, is_component=folder == paths.resolve(side))
            earlier.update(_earlier_files(folder))
    ownership.refuse_strangers(path for path in planned if path not in earlier)


def claim_outputs(paths: Paths, side: Side, types: Sequence[str | None]) -> None:
    """Claim the folders that a command is going to write into. See ``check_outputs`` for arguments and errors."""
    check_outputs(paths, side, types)
    for folder in output_folders(paths, side, types):
        ownership.claim(folder, adopted=() if ownership.is_claimed(folder) else _earlier_files(folder))


def output_folders(paths: Paths, side: Side, types: Sequence[str | None]) -> list[Path]:
    """The folders to claim: of the component or of each type, and those of entries that lie elsewhere.

    See ``check_outputs`` for arguments.
    """
    folders: dict[Path, None] = {}
    for name in types:
        root = paths.resolve(side, name)
        folders[root] = None
        for entry in _entries(side):
            folder = paths.resolve(entry, name)
            if not any(folder.is_relative_to(claimed) for claimed in folders):
                folders[folder] = None
    return list(folders)


def remove_unfinished(paths: Paths, side: Side, types: Sequence[str | None]) -> None:
    """Remove what killed runs left unfinished in the folders that a command has claimed and locked."""
    for folder in output_folders(paths, side, types):
        ownership.remove_unfinished(folder)


def _check_roots(paths: Paths, types: Sequence[str | None]) -> None:
    """Raise ``InputError`` if the folders of models and of results, or of two types, are not separate."""
    model, validate = paths.resolve("component_model_path"), paths.resolve("component_validate_path")
    _check_separate("component_model_path", model, "component_validate_path", validate)
    model_side = {entry: _resolved(paths, entry, types) for entry in _entries("component_model_path")}
    validate_side = {entry: _resolved(paths, entry, types) for entry in _entries("component_validate_path")}
    for entry, folders in model_side.items():
        for other, others in validate_side.items():
            if shared := folders.keys() & others.keys():
                raise InputError(_same_folder(entry, other, shared.pop()))
    first, second = _IMAGE_FOLDERS
    if shared := model_side[first].keys() & model_side[second].keys():
        raise InputError(_same_folder(first, second, shared.pop()))
    for entry, folders in (*model_side.items(), *validate_side.items()):
        for folder, names in folders.items():
            if len(names) > 1 and "log" not in entry:
                raise InputError(
                    f"paths.yaml: {entry} is {folder} for the types {names[0]} and {names[1]}, which would overwrite "
                    "each other's files; give the entry the base of the component (base: *component_model)"
                )


def _entries(side: Side) -> list[PathEntry]:
    return [entry for entry, (base, _) in DEFAULT_ENTRIES.items() if base == side]


def _resolved(paths: Paths, entry: PathEntry, types: Sequence[str | None]) -> dict[Path, list[str]]:
    """The types of each folder that an entry stands for. Links are resolved."""
    folders: dict[Path, list[str]] = {}
    for name in types:
        if name is not None:
            folders.setdefault(paths.resolve(entry, name).resolve(), []).append(name)
    return folders


def _check_separate(entry: str, folder: Path, other_entry: str, other: Path) -> None:
    first, second = folder.resolve(), other.resolve()
    if first == second or _same_file(folder, other):
        raise InputError(_same_folder(entry, other_entry, folder))
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError(
            f"paths.yaml: {entry} ({folder}) and {other_entry} ({other}) are inside one another; "
            "choose two separate folders"
        )


def _same_folder(entry: str, other: str, folder: Path) -> str:
    return f"paths.yaml: {entry} and {other} are the same folder, {folder}; choose two separate folders"


def _same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def _check_source(source: Path, files: Iterable[Path], folders: Sequence[Path]) -> None:
    """Photographs and outputs must be apart. A single photograph may have the output folder next to it."""
    real = source.resolve()
    parents = {path.parent.resolve() for path in files}
    for folder in folders:
        output = folder.resolve()
        if real.is_dir() and (output == real or _same_file(source, folder)):
            relation = "is the folder of"
        elif real.is_relative_to(output) or any(parent.is_relative_to(output) for parent in parents):
            relation = "holds"
        elif real.is_dir() and output.is_relative_to(real):
            relation = "lies in the folder of"
        else:
            continue
        raise InputError(
            f"the output folder {folder} {relation} the photographs ({source}); change paths.yaml, or move the "
            "photographs, so that PIXAL writes to a folder of its own"
        )


def _check_new(folder: Path, *, is_component: bool) -> None:
    """A folder that PIXAL writes to for the first time must not hold photographs."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; the output folder of that name cannot be created, so move the file away")
    if _is_from_earlier_version(folder):
        return
    for path in folder.iterdir() if is_component and folder.is_dir() else _unclaimed_files(folder):
        if path.suffix.lower() in _IMAGES and path.is_file() and not ownership.owns(path):
            raise InputError(
                f"the output folder {folder} holds an image that PIXAL did not write, {path.relative_to(folder)}; "
                "choose another folder in paths.yaml, or move the images away"
            )


def _unclaimed_files(folder: Path) -> Iterator[Path]:
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if not ownership.is_claimed(Path(parent, name))]
        for name in files:
            yield Path(parent, name)


def _is_from_earlier_version(folder: Path) -> bool:
    return any((folder / record).is_file() for record in _EARLIER_RECORDS)


def _earlier_files(folder: Path) -> list[Path]:
    """The files that a version without manifests wrote in an output folder, by their names."""
    if not _is_from_earlier_version(folder):
        return []
    patterns = (*_EARLIER_FILES, *(f"figures/{name}.png" for name in _EARLIER_FIGURES))
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
