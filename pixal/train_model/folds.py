"""Cross-validation: errors of good parts by models that did not see them, then a model of all good parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Execution, ModelTraining
from pixal.execution import map_parallel
from pixal.inputs import InputSet
from pixal.io.arrays import release_pages
from pixal.progress import progress_bar
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import FitControl, ModelFamily, Rows, as_anomaly_model
from pixal.train_model.fold_fit import FoldFit, FoldResult
from pixal.train_model.history import History
from pixal.train_model.keras_training.schedule import typical_rates
from pixal.train_model.specification import ModelSpecification
from pixal.train_model.training_processes import TrainingOnWorker

# The largest number of good parts of a type that are held out. More would add little: the false-alarm rate can be set
# in steps of 1/500, and the variance of a pixel has a standard error of 6 %. And each error takes space on disk.
HELD_OUT = 500


OnHistory = Callable[[str, History], None]


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Attributes:
        model: The model to store.
        history: The history of its fit.
        fold_histories: The history of each fit that left out a fold.
    """

    model: ModelFamily
    history: History
    fold_histories: list[History]


def make_folds(inputs: InputSet, count: int, seed: int, limit: int = HELD_OUT, rows: Rows | None = None) -> list[Rows]:
    """Split the rows of each type into random folds. Their sizes differ by at most one row.

    A type with one image only is in no fold: without its image the model would know nothing about the type.

    Args:
        inputs: The good parts.
        count: The number of folds; fewer are returned if some would be empty.
        seed: Seed of the random split.
        limit: The largest number of rows of a type in the folds; the other rows are in every fit.
        rows: The rows to split; None: all.

    Returns:
        Row indices of each fold, sorted.
    """
    generator = np.random.default_rng(seed)
    labels = np.zeros(len(inputs), int) if inputs.labels is None else inputs.labels.argmax(1)
    folds: list[list[int]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        of_type = np.flatnonzero(labels == label)
        of_type = generator.permutation(of_type if rows is None else np.intersect1d(of_type, rows))
        for position, row in enumerate(of_type[:limit] if len(of_type) > 1 else ()):
            folds[position % count].append(int(row))
    return [np.sort(np.array(fold, np.intp)) for fold in folds if fold]


def cross_validation_folds(model: ModelFamily, inputs: InputSet, settings: ModelTraining) -> list[Rows]:
    """The rows to hold out, fit by fit; a single fold for a family whose fits are costly."""
    count, seed = settings.calibration_folds, settings.seed
    if model.folds_are_cheap:
        return make_folds(inputs, count, seed)
    return make_folds(inputs, count, seed, limit=HELD_OUT * count)[:1]


def held_out_models(
    trained: ModelFamily, inputs: InputSet, masks: NDArray[np.bool_], folds: Sequence[Rows], indices: Sequence[int]
) -> Iterator[tuple[int, ModelFamily]]:
    """Yield models that did not see some of the folds.

    Each is fitted with the settings and seeds of training, which gives the models of the cross-validation in training
    again. If the family's fits are costly, the trained model is itself the one without the first fold.

    Args:
        trained: The trained model.
        inputs: The good parts that it was trained on.
        masks: The consensus mask of each type, (T, H, W).
        folds: The rows of each fold, see ``cross_validation_folds``.
        indices: Which folds.

    Yields:
        The index of the fold, and the model. It is valid until the next one is taken.
    """
    if not trained.folds_are_cheap:
        yield from ((index, trained) for index in indices)
        return
    model = type(trained)(trained.spec)
    rows = {index: np.setdiff1d(np.arange(len(inputs)), folds[index]) for index in indices}
    model.prepare_fits(inputs, list(rows.values()))
    for index in indices:
        model.fit(inputs, rows[index], masks, FitControl(validation_rows=folds[index]))
        yield index, model


def held_out_positions(rows: Rows, folds: Sequence[Rows]) -> Rows:
    """The position of each row among the held-out errors, which are in the order of the rows."""
    return np.searchsorted(np.sort(np.concatenate(folds)), rows)


def folds_of_type(inputs: InputSet, type_index: int, folds: Sequence[Rows]) -> list[Rows]:
    """The rows of one type in each fold; folds without such rows are left out."""
    rows_of_type = inputs.rows_of_type(type_index)
    parts = (np.intersect1d(fold, rows_of_type) for fold in folds)
    return [rows for rows in parts if len(rows)]


def bar_title(name: str) -> str:
    """The title of a progress bar of training."""
    return f"{name}: training"[:34].ljust(34)


def fit_all(
    family: type[ModelFamily],
    specification: ModelSpecification,
    inputs: InputSet,
    masks: NDArray[np.bool_],
    folds: Sequence[Rows],
    checkpoint: Checkpoint,
    *,
    name: str,
    quiet: bool,
    on_final_epoch: Callable[[ModelFamily, int], None] = lambda model, epoch: None,
    on_history: OnHistory | None = None,
    rows: Rows | None = None,
    execution: Execution | None = None,
) -> Fitted:
    """Fit the model without each fold, store the errors of the fold, and then fit it on all rows.

    The last fit uses the learning rates and the number of epochs that were typical of the folds. Fits that the
    checkpoint holds are not repeated. If the family's fits are costly, there is one fit, without the first fold, and
    its model is the result. If the family leaves one out, there is one fit on all rows.

    Args:
        family: The model family.
        specification: What the model is built from.
        inputs: The good parts.
        masks: The consensus mask of each type, (T, H, W).
        folds: The rows to hold out, fit by fit; none: only fit the model on all rows.
        checkpoint: Where to store the errors, and from which to resume.
        name: The name of the model in the progress bar.
        quiet: Whether to hide the progress bar.
        on_final_epoch: Called after each epoch of the resulting model's fit with the model and the epoch.
        on_history: Called after each epoch with the name of the fit (``fold_1``, ...; "" for that of the resulting
            model) and its history so far.
        rows: The rows to learn from; None: all.
        execution: Where to do the fits without a fold; None: in this process.

    Raises:
        ClusterError: The Dask cluster was lost. The checkpoint holds what is done.
        ConfigError: Rows are to be held out, but the family gives no error map.
    """
    model = family(specification.model_dump() | checkpoint.specification)
    all_rows = np.arange(len(inputs)) if rows is None else rows
    fits = _Fits(model, inputs, masks, folds, all_rows, checkpoint, on_final_epoch, on_history, execution)
    if folds and model.leaves_one_out:
        return fits.once(name, quiet)
    epochs = checkpoint.target_epochs or specification.n_epochs
    return fits.fold_by_fold(name, quiet, epochs if model.has_epochs else 1)


@dataclass(frozen=True)
class _Fits:
    """The fits of one model; see ``fit_all`` for the fields."""

    model: ModelFamily
    inputs: InputSet
    masks: NDArray[np.bool_]
    folds: Sequence[Rows]
    all_rows: Rows
    checkpoint: Checkpoint
    on_final_epoch: Callable[[ModelFamily, int], None]
    on_history: OnHistory | None
    execution: Execution | None

    def once(self, name: str, quiet: bool) -> Fitted:
        """Fit the model on all rows, and store the errors of held-out parts that the fit itself gives."""
        model, inputs = self.model, self.inputs
        control = FitControl(
            on_epoch=lambda epoch, loss: self.on_final_epoch(model, epoch),
            on_history=self.on_history,
            checkpoint=self.checkpoint,
            name=name,
            quiet=quiet,
            execution=self.execution,
        )
        # A family with epochs shows its own progress.
        with progress_bar(total=1, title=bar_title(name), unit="fit", quiet=quiet or model.has_epochs) as bar:
            history = model.fit(inputs, self.all_rows, self.masks, control)
            for chunk in inputs.iterate_chunks(np.sort(np.concatenate(self.folds))):
                self._store_errors(chunk, as_anomaly_model(model).left_out_error(inputs, chunk))
            bar.update()
        return Fitted(model, history, [])

    def fold_by_fold(self, name: str, quiet: bool, steps: int) -> Fitted:
        """Fit the model without each fold, or without the first only, and then on all rows.

        Args:
            name: The name of the model in the progress bar.
            quiet: Whether to hide the progress bar.
            steps: The number of epochs of a fit; 1 for a family without epochs.
        """
        is_single_fit = bool(self.folds) and not self.model.folds_are_cheap
        self.checkpoint.keeps_last_state = not self.model.folds_are_cheap
        row_sets = [np.setdiff1d(self.all_rows, fold) for fold in self.folds]
        if not is_single_fit:
            row_sets.append(self.all_rows)
        self.model.prepare_fits(self.inputs, row_sets)
        total = steps if is_single_fit else steps * len(row_sets)
        unit = "epoch" if self.model.has_epochs else "fit"
        with progress_bar(total=total, title=bar_title(name), unit=unit, quiet=quiet) as bar:

            def show_epoch(epoch: int, loss: float) -> None:
                bar.update(len(self.checkpoint.histories) * steps + epoch - bar.n)
                if epoch % 10 == 0:
                    bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

            def finish_epoch(epoch: int, loss: float) -> None:
                show_epoch(epoch, loss)
                self.on_final_epoch(self.model, epoch)

            if is_single_fit:
                history = self._fit_without(0, row_sets[0], finish_epoch, self.on_history)
                histories = [history]
            else:
                # A fit may stop before its last epoch.
                for _ in self._fits_without_folds(row_sets, show_epoch):
                    bar.update(len(self.checkpoint.histories) * steps - bar.n)
                control = FitControl(
                    learning_rates=typical_rates(self.checkpoint.histories),
                    on_epoch=finish_epoch,
                    on_history=self.on_history,
                    checkpoint=self.checkpoint,
                )
                history = self.model.fit(self.inputs, self.all_rows, self.masks, control)
                histories = self.checkpoint.histories
            bar.update(total - bar.n)
        return Fitted(self.model, history, histories)

    def _fits_without_folds(self, row_sets: Sequence[Rows], on_epoch: Callable[[int, float], None]) -> Iterator[int]:
        """Do the fits without a fold that the checkpoint does not hold; yield each fold when its fit is stored."""
        if self.execution is not None and self.execution.backend == "dask":
            yield from self._fits_in_cluster(self.execution, row_sets)
            return
        for index in range(len(self.checkpoint.histories), len(self.folds)):
            on_history = _named(self.on_history, f"fold_{index + 1}")
            history = self._fit_without(index, row_sets[index], on_epoch, on_history)
            self.checkpoint.fit_done(history, self.model.spec.model_dump(mode="json"))
            yield index

    def _fits_in_cluster(self, execution: Execution, row_sets: Sequence[Rows]) -> Iterator[int]:
        """As ``_fits_without_folds``, on the workers of a cluster."""
        missing = list(range(len(self.checkpoint.histories), len(self.folds)))
        if not missing:
            return
        self.checkpoint.take_fit_state()  # of a fold that another process has begun
        work = FoldFit(type(self.model), self.model.spec, self.inputs, self.masks, self.folds, row_sets)
        results: Iterator[FoldResult] = map_parallel(TrainingOnWorker(work), missing, execution, step="", quiet=True)
        for index, found in zip(missing, results, strict=True):
            self._store_errors(self.folds[index], found.errors)
            if self.on_history is not None:
                self.on_history(f"fold_{index + 1}", found.history)
            self.checkpoint.fit_done(found.history, found.specification)
            yield index

    def _fit_without(
        self, index: int, rows: Rows, on_epoch: Callable[[int, float], None], on_history: OnHistory | None
    ) -> History:
        """Fit the model on ``rows``, which are those without a fold, and store the errors of the fold."""
        control = FitControl(
            validation_rows=self.folds[index], on_epoch=on_epoch, on_history=on_history, checkpoint=self.checkpoint
        )
        history = self.model.fit(self.inputs, rows, self.masks, control)
        anomaly_model = as_anomaly_model(self.model)
        for chunk in self.inputs.iterate_chunks(self.folds[index]):
            self._store_errors(chunk, anomaly_model.error(self.inputs, chunk))
        return history

    def _store_errors(self, rows: Rows, errors: NDArray[np.float32]) -> None:
        self.checkpoint.errors[held_out_positions(rows, self.folds)] = errors
        release_pages(self.checkpoint.errors)


def _named(on_history: OnHistory | None, name: str) -> OnHistory | None:
    """Call ``on_history`` with the name of a fit."""
    return None if on_history is None else lambda _, history: on_history(name, history)
