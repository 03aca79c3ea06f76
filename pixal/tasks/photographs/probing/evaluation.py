"""The evaluate command: how well a model, or a checkpoint of it, reconstructs parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal import mlflow_utils
from pixal.errors import InputError, ModelError
from pixal.io.images import write_figure
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.outcome import Failure
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.probing.parts import Parts, find_parts
from pixal.tasks.photographs.probing.reconstruction import MEASURES, reconstruction_measures
from pixal.tasks.photographs.settings import PhotographConfig

_log = logging.getLogger(__name__)

RECORD, TABLE, FIGURE = "evaluation.yaml", "evaluation.csv", "evaluation_reconstructions.png"


@dataclass
class Evaluation:
    """What ``evaluate`` found. types: a record a type, as in ``evaluation.yaml``. failures: what was not prepared."""

    types: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """See ``Results``."""
        return 0

    @property
    def all_failed(self) -> bool:
        """Whether no part could be prepared."""
        return not self.types

    def summary(self) -> str:
        """A table for people: the means over the images of each type, and their spread."""
        width = max(map(len, ("type", *self.types)))
        lines = [f"{'type':<{width}}  images" + "".join(f"  {name.upper():>21}" for name in MEASURES)]
        for name, found in self.types.items():
            values = (found["measures"][measure] for measure in MEASURES)
            cells = "".join(f"  {one['mean']:>9.3g} +- {one['std']:<8.2g}" for one in values)
            lines.append(f"{name:<{width}}  {found['n_images']:>6}{cells}".rstrip())
        return "\n".join(lines)


def evaluate(
    input_path: str | Path | None = None,
    *,
    checkpoint: int | str | Path | None = None,
    samples: int = 8,
    config: PhotographConfig,
    quiet: bool = False,
) -> Evaluation:
    """See ``pixal.evaluate``."""
    found = find_parts(input_path, config, quiet=quiet)
    for parts in found:
        _check(parts)
    models = len({parts.model.owner for parts in found})
    weights = [_weights(parts, checkpoint, models) for parts in found]
    evaluation = Evaluation()
    with mlflow_utils.tracked_run(config, config.paths.component, "evaluate") as tracker:
        artifacts: dict[str, list[Path]] = {}
        for parts, file in zip(found, weights, strict=True):
            measured, files = _evaluate(parts, file, samples, quiet)
            evaluation.failures += parts.failures
            if not measured:
                continue
            evaluation.types[parts.name] = measured
            artifacts[parts.name] = files
            for measure in MEASURES:
                tracker.log_metric(f"{parts.name}/{measure}", measured["measures"][measure]["mean"])
        tracker.log_params({"checkpoint": str(checkpoint or ""), "input": str(input_path or "")})
        tracker.log_artifacts(artifacts)
    if not evaluation.types:
        first = evaluation.failures[0] if evaluation.failures else "there was nothing to do"
        raise InputError(f"{input_path}: nothing could be evaluated; the first failure: {first}")
    return evaluation


def _check(parts: Parts) -> None:
    if parts.model.params.get("gives_distance"):
        raise ModelError(
            f"{parts.model.params['model']} gives a distance and makes no reconstruction that could be measured; "
            "use pixal validate --truth"
        )


def _weights(parts: Parts, checkpoint: int | str | Path | None, models: int) -> Path | None:
    """The weights file that a checkpoint is. Raises ModelError where there is none, or the family cannot load one."""
    if checkpoint is None:
        return None
    name = parts.model.params["model"]
    if not hasattr(parts.family, "load_weights"):
        raise ModelError(f"{name} has no checkpoints; leave --checkpoint out")
    if not str(checkpoint).isdecimal():
        if models > 1:
            raise ModelError(f"{checkpoint} is one file, and there are {models} models; name the input of one type")
        return Path(str(checkpoint))
    stem = f"{parts.model.params['model_name']}_epoch_"
    folder = parts.model.folder / "checkpoints"
    path = folder / f"{stem}{int(str(checkpoint)):04d}.weights.h5"
    if not path.is_file():
        known = sorted(int(file.name[len(stem) :].split(".")[0]) for file in folder.glob(f"{stem}*.weights.h5"))
        there = f"epochs there are: {', '.join(map(str, known))}" if known else "checkpoint_every was 0"
        raise ModelError(f"{path} does not exist ({there})")
    return path


def _evaluate(parts: Parts, weights: Path | None, samples: int, quiet: bool) -> tuple[dict[str, Any], list[Path]]:
    """The record of a type and its files; nothing where no part could be prepared."""
    family, params = parts.family, parts.model.params
    if weights is not None:
        family.load_weights(weights)  # type: ignore[attr-defined]
    mask = parts.model.states[parts.name].mask
    mask = on_canvas(mask[..., None], (*params["shape"][:2], 1))[..., 0]
    channels = list(params["channels"])
    rows: list[dict[str, Any]] = []
    values: list[NDArray[np.float64]] = []
    drawn = _Sample(len(parts), samples, params["seed"])
    for portion, inputs in parts.portions(step=f"{parts.name}: reconstructions", quiet=quiet):
        # A family whose error is not the plain difference, as it counts in sigmas, says what that is.
        errors = family.difference(inputs, slice(None))
        for row, image, error in zip(portion, inputs.images(), errors, strict=True):
            found = reconstruction_measures(image, error, mask)
            drawn.offer(row["image"], image, error)
            values.append(np.stack([found[measure] for measure in MEASURES]))
            rows.append(row | _cells(found, channels))
    config = parts.config
    metadata, figures = (config.paths.resolve(entry, parts.name) for entry in ("metadata_path", "figures_path"))
    files = [metadata / RECORD, metadata / TABLE, figures / FIGURE]
    for stale in files:
        stale.unlink(missing_ok=True)
    if not rows:
        return {}, []
    record = provenance() | {
        "component": config.paths.component,
        "type": parts.name,
        "model": params["model"],
        "model_fingerprint": params.get("fingerprint"),
        "checkpoint": weights,
        "n_images": len(rows),
        "not_evaluated": [{"image": failure.image, "reason": failure.reason} for failure in parts.failures],
        "measures": _statistics(np.stack(values), channels),
        "drawn": drawn.names,
    }
    write_table(files[1], ["image", *_cells(dict.fromkeys(MEASURES, values[0][0]), channels)], rows)
    if drawn.names:
        drawn.draw(files[2], mask, f"{parts.name}: {channels[0]} of {len(drawn.names)} parts at random")
    write_record(files[0], record)
    return record, [file for file in files if file.is_file()]


class _Sample:
    """Some parts of many, drawn at random by ``seed``; no more than these are ever held."""

    def __init__(self, total: int, count: int, seed: int) -> None:
        """Of ``total`` parts, of which not all may be offered, ``count``."""
        self._ranks = iter(np.random.default_rng(seed).permutation(total).tolist())
        self._count = count
        self._held: dict[int, tuple[int, str, NDArray[np.float32], NDArray[np.float32]]] = {}
        self._offered = 0

    def offer(self, name: str, image: NDArray[np.float32], error: NDArray[np.float32]) -> None:
        """Take a part, of which ``image`` and ``error`` are (H, W, C), if it is drawn so far."""
        self._held[next(self._ranks)] = (self._offered, name, image, error)
        self._offered += 1
        if len(self._held) > self._count:
            del self._held[max(self._held)]

    @property
    def names(self) -> list[str]:
        """The parts drawn, in the order in which they were offered."""
        return [name for _, name, _, _ in self._sorted()]

    def draw(self, path: Path, mask: NDArray[np.bool_], title: str) -> None:
        """Write the strip of input, reconstruction and error, the error of the part alone."""
        from pixal.plotting.training import reconstruction_strip

        images, errors = (np.stack([one[place] for one in self._sorted()]) for place in (2, 3))
        errors = np.where(mask[..., None], errors, 0)
        rms = np.where(mask, np.sqrt(np.mean(errors**2, axis=-1)), np.nan)
        figure = reconstruction_strip(
            images[..., 0],
            (images - errors)[..., 0],
            rms,
            self.names,
            title=title,
            error_name="error (RMS over channels)",
        )
        write_figure(path, figure)

    def _sorted(self) -> list[tuple[int, str, NDArray[np.float32], NDArray[np.float32]]]:
        return sorted(self._held.values(), key=lambda one: one[0])


def _cells(found: dict[str, NDArray[np.float64]], channels: list[str]) -> dict[str, float]:
    """A row of the table: each measure's mean over the channels, then that of each channel."""
    cells = {measure: float(values.mean()) for measure, values in found.items()}
    for measure, values in found.items():
        cells |= {f"{measure}_{channel}": float(value) for channel, value in zip(channels, values, strict=True)}
    return cells


def _statistics(values: NDArray[np.float64], channels: list[str]) -> dict[str, Any]:
    """Mean and standard deviation over the images of ``values`` (n, measures, C): of the channels' mean, of each."""
    found: dict[str, Any] = {}
    for index, measure in enumerate(MEASURES):
        own = values[:, index]
        found[measure] = _spread(own.mean(1)) | {
            "channels": {channel: _spread(own[:, place]) for place, channel in enumerate(channels)}
        }
    return found


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    return {"mean": float(values.mean()), "std": float(values.std())}
