"""The ``evaluate`` command: measure how well a model, or a checkpoint of it, reconstructs parts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError, ModelError
from pixal.io import ownership
from pixal.io.output_folders import claim_outputs
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.outcome import Failure, Tabular
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.probing.reconstruction import (
    MEASURES,
    MeasureStatistics,
    measure_statistics,
    reconstruction_measures,
)
from pixal.tasks.photographs.probing.sample import PartSample
from pixal.tasks.photographs.probing.sources import PartSource, find_part_sources
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tracking import tracked_run

RECORD, TABLE, FIGURE = "evaluation.yaml", "evaluation.csv", "evaluation_reconstructions.png"


@dataclass(frozen=True)
class TypeEvaluation:
    """The evaluation of one type, as in ``evaluation.yaml``.

    Attributes:
        component: The component.
        type: The type.
        model: The name of the model family.
        model_fingerprint: The fingerprint of everything that the model depends on; None for an old model.
        checkpoint: The weights file used in place of the model's own weights; None for its own.
        n_images: The number of parts evaluated.
        not_evaluated: The photographs that could not be prepared.
        measures: The statistics over the parts, by measure.
        drawn: The file names of the parts in the figure.
    """

    component: str
    type: str
    model: str
    model_fingerprint: str | None
    checkpoint: Path | None
    n_images: int
    not_evaluated: tuple[Failure, ...]
    measures: dict[str, MeasureStatistics]
    drawn: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return the content for ``evaluation.yaml``."""
        failures = [{"image": failure.image, "reason": failure.reason} for failure in self.not_evaluated]
        return asdict(self) | {"not_evaluated": failures}


@dataclass
class Evaluation(Tabular):
    """The result of ``evaluate``.

    Attributes:
        types: The evaluation of each type.
        failures: The photographs that could not be prepared.
        files: The files that were written.
    """

    types: dict[str, TypeEvaluation] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """See ``Results``; an evaluation gives no verdict."""
        return 0

    @property
    def all_failed(self) -> bool:
        """Whether no part could be prepared."""
        return not self.types

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table: mean and standard deviation of each measure over the images."""
        return ("type", "images", "measure", "mean", "std")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row per type and measure."""
        return [
            {
                "type": name,
                "images": evaluation.n_images,
                "measure": measure,
                "mean": statistics.mean,
                "std": statistics.std,
            }
            for name, evaluation in self.types.items()
            for measure, statistics in evaluation.measures.items()
        ]

    @property
    def headline(self) -> str:
        """Numbers of types and images."""
        images = sum(evaluation.n_images for evaluation in self.types.values())
        return f"{len(self.types)} types, {images} images"

    @property
    def written(self) -> tuple[Path, ...]:
        """The record, the table and the figure of each type."""
        return tuple(self.files)

    def summary(self) -> str:
        """Return a table: mean and standard deviation over the images of each type."""
        width = max(map(len, ("type", *self.types)))
        lines = [f"{'type':<{width}}  images" + "".join(f"  {name.upper():>21}" for name in MEASURES)]
        for name, evaluation in self.types.items():
            statistics = (evaluation.measures[measure] for measure in MEASURES)
            cells = "".join(f"  {measure.mean:>9.3g} +- {measure.std:<8.2g}" for measure in statistics)
            lines.append(f"{name:<{width}}  {evaluation.n_images:>6}{cells}".rstrip())
        return "\n".join(lines)


def evaluate(
    input_path: str | Path | None = None,
    *,
    checkpoint: int | str | Path | None = None,
    samples: int = 8,
    config: PhotographConfig,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate the models of all types; see ``pixal.evaluate``."""
    sources = find_part_sources(input_path, config, quiet=quiet)
    for source in sources:
        _check_reconstructs(source)
    n_models = len({source.model.owner for source in sources})
    weights = [_find_weights(source, checkpoint, n_models) for source in sources]
    claim_outputs(config.paths, "component_model_path", [source.name for source in sources])
    ownership.refuse_strangers(path for source in sources for path in _files(source))
    evaluation = Evaluation()
    with tracked_run(config, config.paths.component, "evaluate") as tracker:
        artifacts: dict[str, list[Path]] = {}
        for source, file in zip(sources, weights, strict=True):
            result = _evaluate(source, file, samples, quiet)
            evaluation.failures += source.failures
            if result is None:
                continue
            evaluation.types[source.name] = result
            artifacts[source.name] = [path for path in _files(source) if path.is_file()]
            evaluation.files += artifacts[source.name]
            for measure in MEASURES:
                tracker.log_metric(f"{source.name}/{measure}", result.measures[measure].mean)
        tracker.log_params({"checkpoint": str(checkpoint or ""), "input": str(input_path or "")})
        tracker.log_artifacts(artifacts)
    if not evaluation.types:
        first = evaluation.failures[0] if evaluation.failures else "there was nothing to do"
        raise InputError(f"{input_path}: nothing could be evaluated; the first failure: {first}")
    return evaluation


def _check_reconstructs(source: PartSource) -> None:
    if not source.model.record.difference_channels:
        raise ModelError(
            f"{source.model.record.model} gives a distance and makes no reconstruction that could be measured; "
            "use pixal validate --truth"
        )


def _find_weights(source: PartSource, checkpoint: int | str | Path | None, n_models: int) -> Path | None:
    """Return the weights file of a checkpoint; None for the model's own weights.

    Raises:
        ModelError: There is no such file, or the family has no checkpoints.
    """
    if checkpoint is None:
        return None
    name = source.model.record.model
    if not source.family.has_weights:
        raise ModelError(f"{name} has no checkpoints; leave --checkpoint out")
    if not str(checkpoint).isdecimal():
        if n_models > 1:
            raise ModelError(f"{checkpoint} is one file, but there are {n_models} models; name the input of one type")
        return Path(str(checkpoint))
    stem = f"{source.model.record.model_name}_epoch_"
    folder = source.model.folder / "checkpoints"
    path = folder / f"{stem}{int(str(checkpoint)):04d}.weights.h5"
    if not path.is_file():
        epochs = sorted(int(file.name[len(stem) :].split(".")[0]) for file in folder.glob(f"{stem}*.weights.h5"))
        stored = f"stored epochs: {', '.join(map(str, epochs))}" if epochs else "checkpoint_every was 0"
        raise ModelError(f"{path} does not exist ({stored})")
    return path


def _evaluate(source: PartSource, weights: Path | None, samples: int, quiet: bool) -> TypeEvaluation | None:
    """Evaluate one type and write its files; return None if no part could be prepared."""
    family, model_record = source.family, source.model.record
    if weights is not None:
        family.load_weights(weights)
    mask = source.model.states[source.name].mask
    mask = on_canvas(mask[..., None], (*model_record.shape[:2], 1))[..., 0]
    channels = list(model_record.channels)
    rows: list[dict[str, str | float]] = []
    values: list[NDArray[np.float64]] = []
    sample = PartSample(len(source), samples, model_record.seed)
    for parts, inputs in source.chunks(step=f"{source.name}: reconstructions", quiet=quiet):
        # ``error`` of a family may be in standard deviations; ``difference`` is always in units of the input.
        errors = family.difference(inputs, slice(None))
        for part, image, error in zip(parts, inputs.images(), errors, strict=True):
            measures = reconstruction_measures(image, error, mask)
            sample.add(part.image, image, error)
            values.append(np.stack([measures[measure] for measure in MEASURES]))
            rows.append({"image": part.image, **_cells(measures, channels)})
    record, table, figure = _files(source)
    for old_file in (record, table, figure):
        ownership.remove(old_file)
    if not rows:
        return None
    evaluation = TypeEvaluation(
        component=source.config.paths.component,
        type=source.name,
        model=model_record.model,
        model_fingerprint=model_record.fingerprint,
        checkpoint=weights,
        n_images=len(rows),
        not_evaluated=tuple(source.failures),
        measures=measure_statistics(np.stack(values), channels),
        drawn=tuple(sample.names),
    )
    write_table(table, list(rows[0]), rows)
    if sample.names:
        sample.draw(figure, mask, f"{source.name}: {channels[0]} of {len(sample.names)} parts at random")
    write_record(record, provenance() | evaluation.as_record())
    return evaluation


def _files(source: PartSource) -> tuple[Path, Path, Path]:
    """Return the paths of the record, the table and the figure."""
    paths = source.config.paths
    metadata, figures = (paths.resolve(entry, source.name) for entry in ("metadata_path", "figures_path"))
    return metadata / RECORD, metadata / TABLE, figures / FIGURE


def _cells(measures: dict[str, NDArray[np.float64]], channels: list[str]) -> dict[str, float]:
    """Return a row of the table: the mean of each measure over the channels, then each channel."""
    cells = {measure: float(values.mean()) for measure, values in measures.items()}
    for measure, values in measures.items():
        cells |= {f"{measure}_{channel}": float(value) for channel, value in zip(channels, values, strict=True)}
    return cells
