"""A small network of charge clusters, trained without a compiled graph, which takes seconds to make."""

from collections.abc import Iterator
from contextlib import contextmanager

from cluster_files import columns_of, config_in, write

import pixal

OPTIONS = [
    "model_training.model_options={projections: true, hidden: [8], kernel_l1: 0, activity_l2: 0}",
    "model_training.batchsize=128",
    "model_training.n_epochs=2",
]


@contextmanager
def without_graphs() -> Iterator[None]:
    """Run Keras step by step."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def events_of(count, seed=0):
    """Events whose charges tell x: their sum rises with it."""
    columns = columns_of(count, seed)
    for index in range(24, 36):
        columns[str(index)] += (columns["x-midplane"] + 80) * 20
    return columns


def prepared(folder, *overrides, events=500):
    """A component with model input."""
    folder.mkdir(exist_ok=True)
    write(folder / "files/part.0.parquet", events_of(events))
    config = config_in(folder, *OPTIONS, *overrides)
    pixal.preprocess(folder / "files", config=config, quiet=True)
    return config
