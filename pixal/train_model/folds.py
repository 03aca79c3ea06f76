"""Cross-validation: errors of good parts under models that did not see them, then the model of all good parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pixal.inputs import InputSet
from pixal.io.arrays import release_pages
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import History, ModelFamily, Rows
from pixal.train_model.keras_training.schedule import repeated

# Good parts of a type that are held out at most. More would say little: the false-alarm rate can be set in steps of
# 1/500, the variance at a pixel has a standard error of 6 %. And each costs its error on disk.
HELD_OUT = 500


@dataclass(frozen=True)
class Fitted:
    """A model of all good parts, how its fit went, and how those went that left a fold out."""

    model: ModelFamily
    history: History
    folds: list[History]


def make_folds(inputs: InputSet, count: int, seed: int, limit: int = HELD_OUT) -> list[Rows]:
    """Random parts of the rows, as equal as can be in each type; at most ``count``, none without a row.

    Of a type they hold ``limit`` rows at most, the others are in every fit. A type's only image is in none: without it
    nothing would be known of the type.
    """
    generator = np.random.default_rng(seed)
    labels = np.zeros(len(inputs), int) if inputs.labels is None else inputs.labels.argmax(1)
    folds: list[list[int]] = [[] for _ in range(count)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        for position, row in enumerate(rows[:limit] if len(rows) > 1 else ()):
            folds[position % count].append(int(row))
    return [np.sort(np.array(fold, np.intp)) for fold in folds if fold]


def places(rows: Rows, folds: Sequence[Rows]) -> Rows:
    """Where the errors of ``rows`` are among those of the ``folds``: each held-out row has one, in the rows' order."""
    return np.searchsorted(np.sort(np.concatenate(folds)), rows)


def of_type(inputs: InputSet, index: int, folds: Sequence[Rows]) -> list[Rows]:
    """The rows of one type in each fold that has any."""
    own = inputs.rows_of_type(index)
    return [part for part in (np.intersect1d(fold, own) for fold in folds) if len(part)]


def fit_all(
    family: type[ModelFamily],
    params: Mapping[str, Any],
    inputs: InputSet,
    masks: NDArray[np.bool_],
    folds: Sequence[Rows],
    checkpoint: Checkpoint,
    *,
    name: str,
    quiet: bool,
    on_own_epoch: Callable[[ModelFamily, int], None] = lambda model, epoch: None,
) -> Fitted:
    """Fit without each fold, noting its errors in ``checkpoint.errors``; then on everything, as the folds did best.

    Fits that the checkpoint knows are not run again. Of a family whose fits are costly there is one: without the first
    fold, and it is the model. ``on_own_epoch`` is told of the model that is kept, and of each epoch of its fit.
    """
    model = family({**params, **checkpoint.params})
    everything, epochs = np.arange(len(inputs)), checkpoint.until or int(params["n_epochs"])
    costly = bool(folds) and not model.folds_are_cheap
    checkpoint.keeps_last = not model.folds_are_cheap
    rests = [np.setdiff1d(everything, fold) for fold in folds]
    model.expect(inputs, rests if costly else [*rests, everything])
    steps = epochs if model.has_epochs else 1
    total = steps if costly else steps * (len(folds) + 1)
    unit = "epoch" if model.has_epochs else "fit"
    with tqdm(total=total, desc=f"{name}: training"[:34].ljust(34), unit=unit, disable=quiet) as bar:

        def on_own(epoch: int, loss: float) -> None:
            on_epoch(epoch, loss)
            on_own_epoch(model, epoch)

        def on_epoch(epoch: int, loss: float) -> None:
            bar.update(len(checkpoint.histories) * steps + epoch - bar.n)
            if epoch % 10 == 0:
                bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

        for fold, rest in list(zip(folds, rests, strict=True))[len(checkpoint.histories) :]:
            told = on_own if costly else on_epoch
            history = model.fit(inputs, rest, masks, validation_rows=fold, on_epoch=told, checkpoint=checkpoint)
            for part in inputs.iterate_chunks(fold):
                checkpoint.errors[places(part, folds)] = model.error(inputs, part)
                release_pages(checkpoint.errors)
            if costly:
                bar.update(total - bar.n)
                return Fitted(model, history, [history])
            checkpoint.fit_done(history, model.params)
            bar.update(len(checkpoint.histories) * steps - bar.n)  # it may have stopped early
        best = [past.best_epoch for past in checkpoint.histories if past.best_epoch]
        rates = repeated(checkpoint.histories, int(np.ceil(np.median(best)))) if best else None
        history = model.fit(inputs, everything, masks, learning_rates=rates, on_epoch=on_own, checkpoint=checkpoint)
        bar.update(total - bar.n)
    return Fitted(model, history, checkpoint.histories)
