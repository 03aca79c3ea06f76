"""The figures of a type's batch: which data goes into which file. ``pixal.plotting`` draws them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.io import ownership
from pixal.io.images import write_figure
from pixal.report.document import PartResult
from pixal.tasks.photographs.settings import Plotting
from pixal.tasks.photographs.verdicts.part_files import OVERLAY_PREFIX, unit_of
from pixal.validation.metrics import LabelledPart, image_measures
from pixal.validation.scoring import Cut, Summary

_LABELS = 5  # parts that are labelled in the figure of the latent space


@dataclass(frozen=True)
class TypeFigureData:
    """The data of the figures of a type.

    Attributes:
        type_name: The image type.
        parts: The parts of the batch.
        labelled: The parts whose truth is known.
        cut: The rule of the verdict.
        summary: Sums over the parts.
        mask: The pixels of the part in the type's input frame, (H, W).
        channels: Names of the input's channels.
        error_channels: Names of the channels of the model's errors.
        training_scores: Scores of the held-out good parts, (N,); empty where they are not comparable.
        training_latents: Latent vectors of the good parts, (N, L).
        latents: Latent vectors of the parts with a score, (n, L); empty where they are not computed.
    """

    type_name: str
    parts: tuple[PartResult, ...]
    labelled: tuple[LabelledPart, ...]
    cut: Cut
    summary: Summary
    mask: NDArray[np.bool_]
    channels: tuple[str, ...]
    error_channels: tuple[str, ...]
    training_scores: NDArray[np.float64]
    training_latents: NDArray[np.float32]
    latents: NDArray[np.float32]

    @property
    def title(self) -> str:
        """The type, and the number of its parts."""
        count = self.summary.parts
        return f"{self.type_name}, {count} part{'' if count == 1 else 's'}"

    @property
    def scored(self) -> list[tuple[PartResult, float]]:
        """The parts with a score, and the score."""
        return [(part, part.score) for part in self.parts if part.score is not None]


def type_figures(folder: Path) -> list[Path]:
    """The figures of a type, without the overlays of its parts."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith(OVERLAY_PREFIX))


def save_type_figures(folder: Path, data: TypeFigureData, plotting: Plotting) -> None:
    """Write the figures of a type that ``plotting`` asks for, and remove earlier ones.

    Figures against the truth need good and defective parts.
    """
    for path in type_figures(folder):
        ownership.remove(path)
    if not data.scored:
        return
    if plotting.plot_distributions:
        _save_distributions(folder, data, log=plotting.use_log_loss)
    if plotting.plot_latent_space:
        _save_latent_space(folder, data)
    _save_pixel_maps(folder, data, plotting)
    if plotting.plot_pixel_predictions and not data.summary.distances:
        _save_pixel_predictions(folder, data)
    if len({part.label for part in data.labelled}) == 2:
        _save_truth_figures(folder, data, plotting)


def _save_distributions(folder: Path, data: TypeFigureData, *, log: bool) -> None:
    from pixal.plotting import pixel_values
    from pixal.plotting.scores import score_distribution

    cut, summary = data.cut, data.summary
    scored = data.scored
    labels = [-1 if part.truth is None else part.truth.label for part, _ in scored]
    figure = score_distribution(
        data.training_scores,
        np.array([score for _, score in scored]),
        np.array(labels) if max(labels) >= 0 else None,
        threshold=cut.threshold,
        log=log and not cut.log,
        unit=f"log₁₀ of the {unit_of(cut)}" if cut.log else unit_of(cut),
        title=f"{data.title}: scores",
    )
    write_figure(folder / "score_distribution.png", figure)
    quantity = "squared distance" if summary.distances else "squared error"
    figure = pixel_values.pixel_loss_histogram(
        summary.loss_edges,
        summary.losses,
        list(data.error_channels),
        loss_name=quantity,
        title=f"{data.title}: {quantity} of the pixels",
    )
    write_figure(folder / "pixel_loss_histogram.png", figure)
    if summary.distances:  # there is no reconstruction
        return
    figure = pixel_values.combined_distribution(
        summary.value_edges, summary.pairs.sum(0), log=log, title=f"{data.title}: predicted against true values"
    )
    write_figure(folder / f"combined_distribution{'_log' if log else ''}.png", figure)
    figure = pixel_values.value_distributions(
        summary.value_edges,
        summary.pairs.sum(2),
        summary.pairs.sum(1),
        list(data.error_channels),
        title=f"{data.title}: input and reconstruction",
    )
    write_figure(folder / "value_distributions.png", figure)


def _save_latent_space(folder: Path, data: TypeFigureData) -> None:
    from pixal.plotting.latent_space import latent_space

    scored = data.scored
    failed = np.array([part.verdict == "fail" for part, _ in scored])
    worst = sorted(np.flatnonzero(failed), key=lambda row: -scored[row][1])[:_LABELS]
    labels = {int(row): f"{scored[row][0].image}, score {scored[row][1]:.3g}" for row in worst}
    figure = latent_space(
        data.training_latents,
        data.latents,
        np.array([score for _, score in scored]),
        failed,
        threshold=data.cut.threshold,
        row_labels=labels,
        title=f"{data.title}: scores and latent vectors",
    )
    write_figure(folder / "latent_space.png", figure)


def _save_pixel_maps(folder: Path, data: TypeFigureData, plotting: Plotting) -> None:
    from pixal.plotting.pixel_values import pixel_map

    summary, log = data.summary, plotting.use_log_loss
    error = "distance" if summary.distances else "error"
    mean = "mean over parts" if summary.distances else "mean over parts and channels"

    def save(file: str, values: NDArray[np.float64], quantity: str, label: str, *, log: bool) -> None:
        title = f"{data.title}: {quantity}"
        figure = pixel_map(values / summary.parts, label=label, mask=data.mask, title=title, log=log)
        write_figure(folder / file, figure)

    if plotting.plot_mse_per_pixel:
        quantity = f"squared {error}"
        save("mse_per_pixel.png", summary.squared, quantity, f"{quantity}, {mean}", log=log)
    if plotting.plot_abs_loss_per_pixel:
        quantity = f"absolute {error}"
        save("abs_loss_per_pixel.png", summary.absolute, quantity, f"{quantity}, {mean}", log=log)
    if plotting.plot_anomaly_heatmap:
        label = f"anomaly, mean over parts ({unit_of(data.cut)})"
        save("anomaly_heatmap.png", summary.anomaly, "mean of the anomaly maps", label, log=False)


def _save_pixel_predictions(folder: Path, data: TypeFigureData) -> None:
    from pixal.plotting.pixel_values import pixel_predictions

    for index, channel in enumerate(data.channels):
        figure = pixel_predictions(
            data.summary.value_edges,
            data.summary.pairs[index],
            channel=channel,
            max_count=float(data.summary.pairs.max()),
            title=f"{data.title}: input and reconstruction of {channel}",
        )
        write_figure(folder / f"pixel_predictions_{channel}.png", figure)


def _save_truth_figures(folder: Path, data: TypeFigureData, plotting: Plotting) -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    from pixal.plotting import classification

    name = data.type_name
    labels = np.array([part.label for part in data.labelled], int)
    scores = np.array([part.score for part in data.labelled])
    failed = np.array([part.failed for part in data.labelled])
    measures = image_measures(labels, scores, failed)
    false_alarms, detected = measures.false_alarm_rate, measures.detection_rate
    auroc, average_precision = measures.image_auroc, measures.image_ap
    if false_alarms is None or detected is None or auroc is None or average_precision is None:
        return  # good or defective parts are missing
    if plotting.plot_roc_recall_curve:
        fpr, tpr, _ = roc_curve(labels, scores)
        figure = classification.roc_curve(fpr, tpr, auc=auroc, point=(false_alarms, detected), title=f"{name}: ROC")
        write_figure(folder / "roc_curve.png", figure)
        precision, recall, _ = precision_recall_curve(labels, scores)
        reached = float(labels[failed].mean()) if failed.any() else None
        figure = classification.precision_recall_curve(
            precision,
            recall,
            ap=average_precision,
            prevalence=float(labels.mean()),
            point=None if reached is None else (detected, reached),
            title=f"{name}: precision and recall",
        )
        write_figure(folder / "pr_curve.png", figure)
    if plotting.plot_confusion_matrix:
        matrix = np.array([[np.sum((labels == t) & (failed == bool(v))) for v in (0, 1)] for t in (0, 1)])
        figure = classification.confusion_matrix(matrix, title=f"{name}: verdicts against truth")
        write_figure(folder / "confusion_matrix.png", figure)
