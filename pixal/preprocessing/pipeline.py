"""The preprocessing commands: from photographs to ``out.npz``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.config import Config, as_config
from pixal.errors import AlignmentError, InputError
from pixal.execution import map_parallel
from pixal.images import Photograph, list_photographs, read_image, write_image
from pixal.inputs import InputSetWriter, load_arrays, save_arrays
from pixal.outcome import Outcome
from pixal.preprocessing import pictures
from pixal.preprocessing.alignment import Alignment, Features, Reference, align_photograph, warp
from pixal.preprocessing.background import choose_method, find_foreground
from pixal.preprocessing.cropping import consensus_mask, crop_box
from pixal.preprocessing.state import PreprocessingState
from pixal.records import file_hash, provenance, read_record, run_log, write_record, write_table

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=np.generic)

BACKGROUND_RECORD = "background.yaml"
ALIGNMENT_RECORD = "alignment.yaml"
PREPROCESSING_RECORD = "preprocessing.yaml"
_RECORDS = (BACKGROUND_RECORD, ALIGNMENT_RECORD, PREPROCESSING_RECORD)
REFERENCE_FILE = "reference.npz"
STATE_FILE = "preprocessing.npz"
ALIGNMENT_COLUMNS = (
    *("image", "status", "reason", "inliers", "inlier_ratio", "ssim", "mse"),
    *(f"h{row}{column}" for row in range(3) for column in range(3)),
)


def preprocess(input_dir: str | Path, *, config: Config | str | Path | None = None, quiet: bool = False) -> Outcome:
    """Remove the background, align, crop, and make the network's input of every photograph below ``input_dir``.

    ``config``: loaded settings, or the folder to load them from. Returns what was done and what could not be.
    Raises InputError where nothing could be processed, ConfigError for a bad configuration.
    """
    config = as_config(config)
    outcome = remove_bg(input_dir, config=config, quiet=quiet)
    outcome = outcome.then(align(input_dir, config=config, quiet=quiet))
    return outcome.then(make_input(input_dir, config=config, quiet=quiet))


def remove_bg(input_dir: str | Path, *, config: Config | str | Path | None = None, quiet: bool = False) -> Outcome:
    """Find the part on every photograph below ``input_dir``; write RGBA images whose alpha is the foreground."""
    config = as_config(config)
    settings = config.preprocessing.remove_background
    photographs = list_photographs(input_dir)
    method = choose_method(settings.method, settings.model)
    if settings.method == "auto":
        why = "its model file is here" if method == "rembg" else f"no model file of rembg's {settings.model} is here"
        _log.info("background method: %s (auto: %s)", method, why)
    outcome = Outcome()
    for type_name, photos in photographs.items():
        folder = config.paths.resolve("background_removed_path", type_name)
        metadata = config.paths.resolve("metadata_path", type_name)
        with run_log(config.paths.resolve("log_path", type_name), "remove_bg"):
            _start(metadata, BACKGROUND_RECORD)
            work = partial(_remove_one, folder=folder, method=method, model=settings.model)
            jobs = [
                (photo, f"{type_name}_{index:03d}" if settings.rename_images else photo.name)
                for index, photo in enumerate(photos)
            ]
            rows = list(
                map_parallel(
                    work,
                    jobs,
                    config.execution,
                    step=f"{type_name}: background",
                    workers=settings.max_workers,
                    quiet=quiet,
                )
            )
            outcome.add(type_name, "background", rows)
            _remove_others(folder, {row["file"] for row in rows})
            write_record(
                metadata / BACKGROUND_RECORD,
                provenance() | {"method": method, "settings": settings.model_dump(), "images": rows},
            )
    return outcome.checked(input_dir)


def align(
    input_dir: str | Path | None = None, *, config: Config | str | Path | None = None, quiet: bool = False
) -> Outcome:
    """Align what ``remove_bg`` made of the photographs below ``input_dir`` to one reference a type."""
    config = as_config(config)
    outcome = Outcome()
    for type_name in _types(input_dir, config, BACKGROUND_RECORD, "remove_bg"):
        with run_log(config.paths.resolve("log_path", type_name), "align"):
            outcome.add(type_name, "alignment", _align_type(type_name, config, quiet))
    return outcome.checked(input_dir)


def make_input(
    input_dir: str | Path | None = None, *, config: Config | str | Path | None = None, quiet: bool = False
) -> Outcome:
    """Cut, light, and pool the aligned photographs; write ``out.npz`` (one a type, or one for all in one-hot mode)."""
    config = as_config(config)
    names = _types(input_dir, config, ALIGNMENT_RECORD, "align")
    one_hot = config.model_training.one_hot_encoding
    if one_hot:  # one model serves every type of the component, whichever was named
        names = _types(None, config, ALIGNMENT_RECORD, "align")
    states = {}
    for name in names:
        with run_log(config.paths.resolve("log_path", name), "make_input"):
            states[name] = _fit_state(name, config)
    outcome = Outcome()
    groups = [(None, names)] if one_hot else [(name, [name]) for name in names]
    for owner, members in groups:
        outcome = outcome.joined(_write_inputs(owner, {name: states[name] for name in members}, config, quiet))
    return outcome.checked(input_dir)


def _remove_one(job: tuple[Photograph, str], *, folder: Path, method: str, model: str) -> dict[str, Any]:
    photo, name = job
    row: dict[str, Any] = {"image": photo.image, "name": photo.name, "source": photo.path, "status": "failed"}
    row["file"] = f"{name}_no_bg.png"
    try:
        image = read_image(photo.path)
        row["sha256"] = file_hash(photo.path)
        row["size"] = [image.shape[1], image.shape[0]]
        mask = find_foreground(image, method, model)
    except InputError as error:
        return row | {"reason": str(error)}
    top = np.iinfo(image.dtype).max
    write_image(folder / row["file"], np.dstack([image[..., :3], mask.astype(image.dtype) * top]))
    return row | {"status": "ok", "reason": "", "foreground": float(mask.mean())}


def _align_type(type_name: str, config: Config, quiet: bool) -> list[dict[str, Any]]:
    settings = config.preprocessing.alignment
    metadata = config.paths.resolve("metadata_path", type_name)
    figures = config.paths.resolve("aligned_metrics_path", type_name)
    source = config.paths.resolve("background_removed_path", type_name)
    target = config.paths.resolve("aligned_images_path", type_name)
    rows = read_record(metadata / BACKGROUND_RECORD)["images"]
    usable = [row for row in rows if row["status"] == "ok"]
    if not usable:  # each is a failure of the step before
        _log.error("%s: none of its %d photographs shows a part; the type is left out", type_name, len(rows))
        return []
    _start(metadata, ALIGNMENT_RECORD)
    first = _reference_row(usable)
    image, mask = _split(read_image(source / first["file"]))
    reference = Reference.of(image, mask, settings.number_of_points)
    pictures.remove_alignment_pictures(figures)
    work = partial(
        _align_one,
        source=source,
        target=target,
        reference=reference,
        settings=settings,
        figures=figures,
        reference_name=first["image"],
    )
    done: list[dict[str, Any]] = []
    share = np.zeros(mask.shape, np.float32)
    brightness = np.zeros(mask.shape, np.float32)
    step = f"{type_name}: alignment"
    for row, part in map_parallel(work, usable, config.execution, step=step, quiet=quiet):
        done.append(row)
        if part is not None:
            share += part[0]
            brightness += part[1]
    aligned = max(1, sum(row["status"] == "ok" for row in done))  # the reference aligns to itself unless limits forbid
    by_image = {row["image"]: row for row in done}
    table = [
        by_image.get(row["image"]) or {"image": row["image"], "status": "failed", "reason": row["reason"]}
        for row in rows
    ]
    save_arrays(
        metadata / REFERENCE_FILE,
        image=reference.image,
        mask=reference.mask,
        points=reference.features.points,
        descriptors=reference.features.descriptors,
        share=share / aligned,
        brightness=brightness / aligned,
    )
    write_record(
        metadata / ALIGNMENT_RECORD,
        provenance() | {"reference": first["image"], "settings": settings.model_dump(), "images": done},
    )
    _remove_others(target, {row["file"] for row in done if row["status"] == "ok"})
    write_table(figures / "results.csv", ALIGNMENT_COLUMNS, table)
    if settings.save_metrics:
        pictures.save_alignment_metrics(figures / "metrics.png", done, settings, type_name)
    if not any(row["status"] == "ok" for row in done):
        (metadata / ALIGNMENT_RECORD).unlink()
        _log.error("%s: none of its %d photographs can be aligned; the type is left out", type_name, len(done))
    return done


def _align_one(
    row: dict[str, Any],
    *,
    source: Path,
    target: Path,
    reference: Reference,
    settings: Any,
    figures: Path,
    reference_name: str,
) -> tuple[dict[str, Any], tuple[NDArray[np.bool_], NDArray[np.uint8]] | None]:
    """Align one photograph: its table row, and its warped mask and grey level unless it failed."""
    kept = {key: row[key] for key in ("image", "name", "source", "sha256")} | {"status": "failed"}
    try:
        image, mask = _split(read_image(source / row["file"]))
        result = align_photograph(image, mask, reference, settings)
    except (InputError, AlignmentError) as error:
        return kept | {"reason": str(error)}, None
    kept |= alignment_row(result)
    moved = warp(mask.astype(np.uint8), result.homography, nearest=True) > 0
    pictures.save_alignment_pictures(figures, row["name"], image, result, reference, reference_name, settings)
    if result.reason:
        return kept | {"reason": result.reason}, None
    name = row["file"].removesuffix("_no_bg.png") + "_aligned.png"
    top = np.iinfo(image.dtype).max
    write_image(target / name, np.dstack([result.aligned, moved.astype(image.dtype) * top]))
    return kept | {"status": "ok", "reason": "", "file": name}, (moved, pictures.grey(result.aligned))


def alignment_row(result: Alignment) -> dict[str, Any]:
    """The columns of ``results.csv`` that an alignment gives."""
    row: dict[str, Any] = {"inliers": result.inliers, "inlier_ratio": result.inlier_ratio}
    row |= {"ssim": result.ssim, "mse": result.mse}
    return row | {f"h{i}{j}": float(result.homography[i, j]) for i in range(3) for j in range(3)}


def _fit_state(type_name: str, config: Config) -> PreprocessingState:
    settings = config.preprocessing.preprocessor
    metadata = config.paths.resolve("metadata_path", type_name)
    figures = config.paths.resolve("figures_path", type_name)
    try:
        file = load_arrays(metadata / REFERENCE_FILE)
        reference = Reference(file["image"], file["mask"], Features(file["points"], file["descriptors"]))
        share, brightness = file["share"], file["brightness"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(f"{metadata / REFERENCE_FILE} is missing or damaged; run align again") from error
    consensus = consensus_mask(share, settings.consensus)
    if settings.zero_pruning:
        box = crop_box(
            consensus,
            brightness,
            bg_threshold=settings.bg_threshold,
            padding=settings.zero_pruning_padding,
            multiple=settings.pool_size,
        )
    else:
        box = (0, 0, consensus.shape[1], consensus.shape[0])
    method = read_record(metadata / BACKGROUND_RECORD)["method"]
    state = PreprocessingState(type_name, reference, consensus, box, method, config.preprocessing)
    state.save(metadata / STATE_FILE)
    pictures.save_crop_pictures(figures, state, brightness)
    return state


def _write_inputs(owner: str | None, states: dict[str, PreprocessingState], config: Config, quiet: bool) -> Outcome:
    """Write one ``out.npz``: of type ``owner``, or of all types together."""
    outcome = Outcome()
    path = config.paths.resolve("component_model_path", owner) / config.preprocessing.preprocessor.file_name
    shape = common_shape(states.values())
    one_hot = owner is None
    for name in (owner, *states):
        _start(config.paths.resolve("metadata_path", name), PREPROCESSING_RECORD)
    written: dict[str, list[dict[str, Any]]] = {}
    with InputSetWriter(
        path, shape, config.preprocessing.preprocessor.channels, list(states) if one_hot else ()
    ) as out:
        for type_name, state in states.items():
            record = read_record(config.paths.resolve("metadata_path", type_name) / ALIGNMENT_RECORD)
            folder = config.paths.resolve("aligned_images_path", type_name)
            rows = [row for row in record["images"] if row["status"] == "ok"]
            step = f"{type_name}: input"
            work = partial(_input_one, folder=folder, state=state)
            done: list[dict[str, Any]] = []
            first: NDArray[np.float32] | None = None
            for row, image in map_parallel(work, rows, config.execution, step=step, quiet=quiet):
                done.append(row)
                if image is not None:
                    first = image if first is None else first
                    out.append(
                        on_canvas(image, shape),
                        f"{type_name}/{row['image']}" if one_hot else row["image"],
                        type_name,
                    )
            outcome.add(type_name, "input", done)
            written[type_name] = [row for row in done if row["status"] == "ok"]
            if first is None:
                raise InputError(f"{type_name}: none of its aligned photographs can be read; run align again")
            _log.info("%s: %d photographs in %s", type_name, len(written[type_name]), path)
            pictures.save_channels(config.paths.resolve("figures_path", type_name), first, state)
    for name in [*states, *([None] if one_hot else [])]:
        members = {name: states[name]} if name else states
        write_record(
            config.paths.resolve("metadata_path", name) / PREPROCESSING_RECORD,
            _preprocessing_record(members, written, shape, path, config),
        )
    return outcome


def _input_one(
    row: dict[str, Any], *, folder: Path, state: PreprocessingState
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    kept = {key: row[key] for key in ("image", "source", "sha256")}
    try:
        image, _ = _split(read_image(folder / row["file"]))
    except InputError as error:
        return kept | {"status": "failed", "reason": f"{row['file']} {error}; run align again"}, None
    return kept | {"status": "ok", "reason": ""}, state.to_input(image)


def _preprocessing_record(
    states: dict[str, PreprocessingState],
    written: dict[str, list[dict[str, Any]]],
    shape: tuple[int, int, int],
    path: Path,
    config: Config,
) -> dict[str, Any]:
    types = {
        name: {
            "background_method": state.method,
            "crop_box": dict(zip(("x", "y", "width", "height"), state.box, strict=True)),
            "shape": list(state.shape),
            "part_pixels": int(state.mask.sum()),
            "images": written[name],
        }
        for name, state in states.items()
    }
    only = next(iter(types.values())) if len(types) == 1 else {}
    return (
        provenance()
        | {
            "component": config.paths.component,
            "input": path.name,
            "input_dim": int(np.prod(shape)),
            "shape": list(shape),
            "channels": list(config.preprocessing.preprocessor.channels),
            "n_images": sum(len(rows) for name, rows in written.items() if name in states),
            "sha256": file_hash(path),
        }
        | ({"crop_box": only["crop_box"]} if only else {})
        | {"types": types, "settings": config.preprocessing.model_dump()}
    )


def common_shape(states: Iterable[PreprocessingState]) -> tuple[int, int, int]:
    """The smallest (H, W, C) that holds the inputs of all types."""
    shapes = [state.shape for state in states]
    return max(s[0] for s in shapes), max(s[1] for s in shapes), shapes[0][2]


def on_canvas(image: NDArray[T], shape: Sequence[int]) -> NDArray[T]:
    """An input (h, w, C) at the top left of the common input ``shape``, 0 beyond."""
    return np.pad(image, ((0, shape[0] - image.shape[0]), (0, shape[1] - image.shape[1]), (0, 0)))


def _types(input_dir: str | Path | None, config: Config, record: str, before: str) -> list[str]:
    """The types to go on with: those below ``input_dir``, or all that the step ``before`` left its ``record`` of.

    A type that the first step knows but a later one had to leave out stays out. Raises InputError for one that no step
    has seen.
    """
    root = config.paths.resolve("component_model_path").resolve()

    def has(name: str, file: str) -> bool:
        return (config.paths.resolve("metadata_path", name) / file).is_file()

    if input_dir is None or Path(input_dir).resolve() == root:
        wanted = sorted(path.name for path in root.glob("*") if has(path.name, BACKGROUND_RECORD))
    elif Path(input_dir).resolve().is_relative_to(root):
        wanted = [Path(input_dir).resolve().relative_to(root).parts[0]]
    else:
        wanted = list(list_photographs(input_dir))
    unseen = [name for name in wanted if not has(name, BACKGROUND_RECORD)]
    ready = [name for name in wanted if has(name, record)]
    if unseen or not ready:
        what = unseen[0] if unseen else ", ".join(wanted) or "no type"
        raise InputError(f"{what}: {root} holds nothing that {before} made of it; run {before}, or preprocess, first")
    return ready


def _start(metadata: Path, record: str) -> None:
    """Take back the record of a step that begins, and of those that follow it.

    A record vouches for the files of its step: while they are being replaced, and when the run is killed, none does.
    """
    for name in _RECORDS[_RECORDS.index(record) :]:
        (metadata / name).unlink(missing_ok=True)


def _reference_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The first photograph of the size that most have."""
    sizes = [tuple(row["size"]) for row in rows]
    usual = max(sizes, key=sizes.count)
    return rows[sizes.index(usual)]


def _split(rgba: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """An RGBA image as (H, W, 3) and its alpha as (H, W) bool."""
    if rgba.shape[2] != 4:
        raise InputError("has no alpha channel; run remove_bg again")
    return np.ascontiguousarray(rgba[..., :3]), np.asarray(rgba[..., 3] > np.iinfo(rgba.dtype).max // 2)


def _remove_others(folder: Path, files: set[str]) -> None:
    """Delete images of an earlier run that are no longer among the inputs, so that nothing takes them for results."""
    for path in folder.glob("*.png"):
        if path.name not in files:
            path.unlink()
