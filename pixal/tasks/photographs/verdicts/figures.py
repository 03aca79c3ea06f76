"""The figures of a type's batch: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixal.io.images import write_figure
from pixal.tasks.photographs.settings import PhotographConfig, Plotting
from pixal.tasks.photographs.verdicts.part_files import OVERLAY, unit_of
from pixal.train_model.family import error_weights
from pixal.validation.metrics import image_measures

if TYPE_CHECKING:
    from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts

_NAMED = 5  # parts named in the picture of the latent space


def summary_figures(folder: Path) -> list[Path]:
    """A type's figures, its parts' overlays left out."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith(OVERLAY))


def save_summary(folder: Path, verdicts: TypeVerdicts, config: PhotographConfig) -> None:
    """Write a type's figures, as the ``plotting`` settings ask; those that need truth only where there is some."""
    for stale in summary_figures(folder):
        stale.unlink()
    scored = [part for part in verdicts.parts if part["score"] is not None]
    if not scored:
        return
    if config.plotting.plot_distributions:
        _save_distributions(folder, verdicts, scored, config.plotting)
    if config.plotting.plot_latent_space:
        _save_latent_space(folder, verdicts, scored)
    _save_pixels(folder, verdicts, config.plotting)
    labels = {part.label for part in verdicts.labelled}
    if len(labels) == 2:
        _save_against_truth(folder, verdicts, config.plotting)


def _save_distributions(folder: Path, verdicts: TypeVerdicts, scored: list[dict[str, Any]], plotting: Plotting) -> None:
    from pixal.plotting import pixel_values
    from pixal.plotting.scores import score_distribution

    name, cut, summary = _titled(verdicts), verdicts.cut, verdicts.summary
    channels = list(error_weights(verdicts.model.params))
    truth = [part["truth"]["label"] if part["truth"] else -1 for part in scored]
    scores = np.array([part["score"] for part in scored])
    suffix = "_log" if plotting.use_log_loss else ""
    figure = score_distribution(
        np.array([]) if cut.raw else verdicts.calibration.scores,
        scores,
        np.array(truth) if max(truth) >= 0 else None,
        threshold=cut.threshold,
        log=plotting.use_log_loss and not cut.log,
        unit=f"log₁₀ of the {unit_of(cut)}" if cut.log else unit_of(cut),
        title=f"{name}: scores",
    )
    write_figure(folder / f"combined_distribution{suffix}.png", figure)
    what = "squared distance" if summary.distances else "squared error"
    figure = pixel_values.pixel_loss_histogram(
        summary.loss_edges,
        summary.losses,
        channels,
        loss_name=what,
        title=f"{name}: {what} of the pixels",
    )
    write_figure(folder / "pixel_loss_histogram.png", figure)
    if summary.distances:
        return
    figure = pixel_values.value_distributions(
        summary.value_edges,
        summary.pairs.sum(2),
        summary.pairs.sum(1),
        channels,
        title=f"{name}: input and reconstruction",
    )
    write_figure(folder / "value_distributions.png", figure)


def _titled(verdicts: TypeVerdicts) -> str:
    count = verdicts.summary.parts
    return f"{verdicts.name}, {count} part{'' if count == 1 else 's'}"


def _save_latent_space(folder: Path, verdicts: TypeVerdicts, scored: list[dict[str, Any]]) -> None:
    from pixal.plotting.latent_space import latent_space

    failed = np.array([part["verdict"] == "fail" for part in scored])
    worst = sorted(np.flatnonzero(failed), key=lambda row: -scored[row]["score"])[:_NAMED]
    figure = latent_space(
        verdicts.model.latents[verdicts.name],
        verdicts.latents,
        failed,
        row_labels={int(row): f"{scored[row]['image']}, score {scored[row]['score']:.3g}" for row in worst},
        title=f"{verdicts.name}: what the model keeps of each part",
    )
    write_figure(folder / "latent_space.png", figure)


def _save_pixels(folder: Path, verdicts: TypeVerdicts, plotting: Plotting) -> None:
    from pixal.plotting import pixel_values

    name, cut, summary = _titled(verdicts), verdicts.cut, verdicts.summary
    mask, channels = verdicts.state.mask, verdicts.state.settings.preprocessor.channels
    error = "distance" if summary.distances else "error"
    if plotting.plot_pixel_predictions and not summary.distances:
        for index, channel in enumerate(channels):
            figure = pixel_values.pixel_predictions(
                summary.value_edges,
                summary.pairs[index],
                channel=channel,
                max_count=float(summary.pairs.max()),
                title=f"{name}: input and reconstruction",
            )
            write_figure(folder / f"pixel_predictions_{channel}.png", figure)
    of = "mean over parts" if summary.distances else "mean over parts and channels"
    for wanted, file, values, what, label in (
        (
            plotting.plot_mse_per_pixel,
            "mse_per_pixel.png",
            summary.squared,
            f"squared {error}",
            f"squared {error}, {of}",
        ),
        (
            *(plotting.plot_abs_loss_per_pixel, "abs_loss_per_pixel.png", summary.absolute),
            *(f"absolute {error}", f"absolute {error}, {of}"),
        ),
        (
            *(plotting.plot_anomaly_heatmap, "anomaly_heatmap.png", summary.anomaly),
            *("mean of the anomaly maps", f"anomaly, mean over parts ({unit_of(cut)})"),
        ),
    ):
        if wanted:
            figure = pixel_values.pixel_map(
                values / summary.parts,
                label=label,
                mask=mask,
                title=f"{name}: {what}",
                log=plotting.use_log_loss and values is not summary.anomaly,
            )
            write_figure(folder / file, figure)


def _save_against_truth(folder: Path, verdicts: TypeVerdicts, plotting: Plotting) -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    from pixal.plotting import classification

    name = verdicts.name
    labels = np.array([part.label for part in verdicts.labelled], int)
    scores = np.array([part.score for part in verdicts.labelled])
    failed = np.array([part.failed for part in verdicts.labelled])
    measures = image_measures(labels, scores, failed)
    alarm, found = measures.false_alarm_rate, measures.detection_rate
    auroc, average_precision = measures.image_auroc, measures.image_ap
    if alarm is None or found is None or auroc is None or average_precision is None:
        return  # good or defective parts are missing
    if plotting.plot_roc_recall_curve:
        fpr, tpr, _ = roc_curve(labels, scores)
        figure = classification.roc_curve(fpr, tpr, auc=auroc, point=(alarm, found), title=f"{name}: ROC")
        write_figure(folder / "roc_curve.png", figure)
        precision, recall, _ = precision_recall_curve(labels, scores)
        hit = float(labels[failed].mean()) if failed.any() else None
        figure = classification.precision_recall_curve(
            precision,
            recall,
            ap=average_precision,
            prevalence=float(labels.mean()),
            point=None if hit is None else (found, hit),
            title=f"{name}: precision and recall",
        )
        write_figure(folder / "pr_curve.png", figure)
    if plotting.plot_confusion_matrix:
        matrix = np.array([[np.sum((labels == t) & (failed == bool(v))) for v in (0, 1)] for t in (0, 1)])
        figure = classification.confusion_matrix(matrix, title=f"{name}: verdicts against truth")
        write_figure(folder / "confusion_matrix.png", figure)
