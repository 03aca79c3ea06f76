"""The pictures and maps of validation: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from pixal.config import Config
from pixal.config.schema import Plotting
from pixal.errors import InputError
from pixal.images import as_uint8, atomic, read_image, write_figure, write_image
from pixal.preprocessing.state import input_to_photo
from pixal.validation.metrics import PixelCounts, Truth, image_measures
from pixal.validation.scoring import Cut, Scored

if TYPE_CHECKING:
    from pixal.validation.verdicts import TypeVerdicts

_OVERLAY = "anomaly_overlay_"
_LARGEST_FLOAT16 = 65504.0


def overlay_name(record: dict[str, Any]) -> str:
    """The file name of a part's overlay."""
    return f"{_OVERLAY}{record['name']}.png"


def summary_figures(folder: Path) -> list[Path]:
    """A type's figures, its parts' overlays left out."""
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith(_OVERLAY))


def save_part(
    job: tuple[dict[str, Any], Scored, NDArray[np.float64]],
    *,
    truth: Truth | None,
    cut: Cut,
    figures: Path,
    maps: Path | None,
    overlays: bool,
) -> PixelCounts | None:
    """Write a part's anomaly map and overlay in its photograph's frame; count its pixels where the truth has a mask."""
    record, scored, to_input = job
    size = (record["height"], record["width"])
    values = input_to_photo(scored.map, to_input, size)
    half = np.minimum(values, _LARGEST_FLOAT16).astype(np.float16)
    if maps is not None:
        import tifffile

        with atomic(maps / f"{record['name']}.tiff") as temporary:
            tifffile.imwrite(temporary, half, compression="zlib", compressionargs={"level": 1})
    if overlays:
        _save_overlay(figures / overlay_name(record), record, scored, values, cut)
    mask = truth.mask(record["name"], size) if truth is not None else None
    if mask is None:
        return None
    counts = PixelCounts()
    counts.add(half, mask)
    return counts


def _save_overlay(path: Path, record: dict[str, Any], scored: Scored, values: NDArray[np.float32], cut: Cut) -> None:
    from pixal.plotting.overlay import anomaly_overlay

    try:
        photo = np.ascontiguousarray(as_uint8(read_image(Path(record["source"]))[..., :3]))
    except InputError:  # detect may run where the photographs no longer are; the map is drawn on grey then
        photo = np.full((*values.shape, 3), 64, np.uint8)
    verdict = "FAIL" if scored.failed else "pass"
    p = "" if scored.p_value is None else f", p = {scored.p_value:.2g}"
    overlay = anomaly_overlay(
        photo,
        values,
        threshold=cut.on_map,
        regions=[(r.x, r.y, r.width, r.height, f"{r.peak:.3g}  {r.channel}") for r in scored.regions],
        caption=f"{record['image']}: {verdict}, score {scored.score:.3g}, threshold {cut.threshold:.3g}{p}",
    )
    write_image(path, overlay)


def save_summary(folder: Path, verdicts: TypeVerdicts, config: Config) -> None:
    """Write a type's figures, as the ``plotting`` settings ask; those that need truth only where there is some."""
    for stale in summary_figures(folder):
        stale.unlink()
    scored = [part for part in verdicts.parts if part["score"] is not None]
    if not scored:
        return
    if config.plotting.plot_distributions:
        _save_distributions(folder, verdicts, scored, config.plotting)
    _save_pixels(folder, verdicts, config.plotting)
    labels = {row["label"] for row in verdicts.labelled}
    if len(labels) == 2:
        _save_against_truth(folder, verdicts, config.plotting)
    elif verdicts.truth is not None:
        verdicts.notes.append(
            f"{verdicts.name}: the truth has not both good and defective parts; no ROC, PR or confusion matrix"
        )


def _save_distributions(folder: Path, verdicts: TypeVerdicts, scored: list[dict[str, Any]], plotting: Plotting) -> None:
    from pixal.plotting import validation

    name, cut, summary = verdicts.name, verdicts.cut, verdicts.summary
    channels = verdicts.state.settings.preprocessor.channels
    truth = [part["truth"]["label"] if part["truth"] else -1 for part in scored]
    scores = np.array([part["score"] for part in scored])
    suffix = "_log" if plotting.use_log_loss else ""
    figure = validation.score_distribution(
        np.array([]) if cut.raw else verdicts.calibration.scores,
        scores,
        np.array(truth) if max(truth) >= 0 else None,
        threshold=cut.threshold,
        log=plotting.use_log_loss and not cut.log,
        title=f"{name}: scores",
    )
    write_figure(folder / f"combined_distribution{suffix}.png", figure)
    figure = validation.pixel_loss_histogram(
        summary.loss_edges,
        summary.losses,
        channels,
        log=plotting.use_log_loss,
        title=f"{name}: loss of the pixels",
    )
    write_figure(folder / "pixel_loss_histogram.png", figure)
    figure = validation.value_distributions(
        summary.value_edges,
        summary.pairs.sum(2),
        summary.pairs.sum(1),
        channels,
        title=f"{name}: input and reconstruction",
    )
    write_figure(folder / "value_distributions.png", figure)


def _save_pixels(folder: Path, verdicts: TypeVerdicts, plotting: Plotting) -> None:
    from pixal.plotting import validation

    name, cut, summary = verdicts.name, verdicts.cut, verdicts.summary
    mask, channels = verdicts.state.mask, verdicts.state.settings.preprocessor.channels
    if plotting.plot_pixel_predictions:
        for index, channel in enumerate(channels):
            figure = validation.pixel_predictions(
                summary.value_edges,
                summary.pairs[index],
                channel=channel,
                title=f"{name}: input and reconstruction",
            )
            write_figure(folder / f"pixel_predictions_{channel}.png", figure)
    unit = "loss" if cut.raw else "standard deviations"
    for wanted, file, values, label in (
        (plotting.plot_mse_per_pixel, "mse_per_pixel.png", summary.squared, "mean squared error"),
        (plotting.plot_abs_loss_per_pixel, "abs_loss_per_pixel.png", summary.absolute, "mean absolute error"),
        (plotting.plot_anomaly_heatmap, "anomaly_heatmap.png", summary.anomaly, f"mean anomaly ({unit})"),
    ):
        if wanted:
            title = f"{name}: {label}, {summary.parts} parts"
            write_figure(
                folder / file,
                validation.pixel_map(values / summary.parts, label=label, mask=mask, title=title),
            )


def _save_against_truth(folder: Path, verdicts: TypeVerdicts, plotting: Plotting) -> None:
    from pixal.plotting import quality

    name = verdicts.name
    labels = np.array([row["label"] for row in verdicts.labelled], int)
    scores = np.array([row["score"] for row in verdicts.labelled])
    failed = np.array([row["failed"] for row in verdicts.labelled])
    measures: dict[str, Any] = image_measures(labels, scores, failed)
    alarm, found = measures["false_alarm_rate"], measures["detection_rate"]
    if plotting.plot_roc_recall_curve:
        fpr, tpr, _ = roc_curve(labels, scores)
        figure = quality.roc_curve(fpr, tpr, auc=measures["image_auroc"], point=(alarm, found), title=f"{name}: ROC")
        write_figure(folder / "roc_curve.png", figure)
        precision, recall, _ = precision_recall_curve(labels, scores)
        hit = float(labels[failed].mean()) if failed.any() else None
        figure = quality.precision_recall_curve(
            precision,
            recall,
            ap=measures["image_ap"],
            prevalence=float(labels.mean()),
            point=None if hit is None else (found, hit),
            title=f"{name}: precision and recall",
        )
        write_figure(folder / "pr_curve.png", figure)
    if plotting.plot_confusion_matrix:
        matrix = np.array([[np.sum((labels == t) & (failed == bool(v))) for v in (0, 1)] for t in (0, 1)])
        figure = quality.confusion_matrix(matrix, title=f"{name}: verdicts against truth")
        write_figure(folder / "confusion_matrix.png", figure)
