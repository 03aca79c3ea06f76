"""Split events into training, validation and test by their content."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.tasks.charge_clusters.reading import Events

SPLITS = ("train", "validation", "test")


def split_of(events: Events, *, seed: int, validation: float, test: float) -> NDArray[np.intp]:
    """Assign events to ``SPLITS``.

    The choice depends on the content of an event and on the seed. So the same event is in the same split, however often
    and in whichever file it comes. The hash of an event is the multilinear one of Lemire and Kaser (The Computer
    Journal 57, 2014), which is strongly universal: two different events are independent.

    Args:
        events: The events.
        seed: The seed of the hash.
        validation: Share of the events in ``validation``.
        test: Share of the events in ``test``.

    Returns:
        Indices into ``SPLITS``, (n,).
    """
    content = np.hstack([events.charge.reshape(len(events), -1), events.labels + np.float32(0)])
    words = np.ascontiguousarray(content, "<f4").view(np.uint32)
    keys = np.random.default_rng(seed).integers(0, 2**64, words.shape[1] + 1, np.uint64)
    total = np.full(len(events), keys[0], np.uint64)
    for key, column in zip(keys[1:], words.T, strict=True):  # by columns: no copy of all words with 64 bits
        total += key * column
    position = (total >> np.uint64(32)) / 2.0**32
    return np.where(position < test, 2, np.where(position < test + validation, 1, 0))
