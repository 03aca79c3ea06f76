"""Streams of charge clusters: Arrow against TFRecord, and an epoch of many events. Prints the figures of the page.

    python tests/benchmarks/cluster_streams.py FOLDER [--events 100000] [--epoch 10000000] [--steps 200]

Simulates events once, and writes them as Arrow shards and as TFRecord files. The epoch repeats the blocks of the
shards. Times are processor seconds of the whole process, so other programs on the machine hardly change them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pixal.tasks.charge_clusters.model_input import Block
from pixal.tasks.charge_clusters.normalization import Normalization, NormalizationFit
from pixal.tasks.charge_clusters.reading import Events
from pixal.tasks.charge_clusters.settings import Clusters
from pixal.tasks.charge_clusters.shards import EventStream, ShardWriter
from pixal.tasks.charge_clusters.simulation import simulate_chunks

SETTINGS = Clusters()
BATCH = 256


def simulated(count: int) -> Iterator[Events]:
    """Events in two slices, a few hundred at a time."""
    start = 0
    for part in simulate_chunks(count, seed=1):
        charge = np.ascontiguousarray(part.charge[..., list(SETTINGS.used_slices)])
        yield Events(np.arange(start, start + len(charge)), charge, part.labels)
        start += len(charge)


def measured(title: str, count: int, work: Callable[[], Any]) -> Any:
    """Do the work, and print how many events it does in a processor second."""
    before = time.process_time()
    result = work()
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _say(f"{title}: {count / seconds:,.0f} events per processor second; peak memory so far {peak:.2f} GiB")
    return result


def write_records(path: Path, parts: list[Events], compression: str) -> None:
    """Write one TFRecord per event: the bytes of its charges and labels."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for part in parts:
            for charge, labels in zip(part.charge, part.labels, strict=True):
                values = {"charge": charge.tobytes(), "labels": labels.tobytes()}
                features = {
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for name, value in values.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())


def read_records(path: Path, compression: str, normalization: Normalization) -> int:
    """Read all events in mixed batches, normalised as in training; return their number."""
    import tensorflow as tf

    names = {name: tf.io.FixedLenFeature([], tf.string) for name in ("charge", "labels")}

    def decode(records: Any) -> tuple[Any, Any]:
        parsed = tf.io.parse_example(records, names)
        return tf.io.decode_raw(parsed["charge"], tf.float32), tf.io.decode_raw(parsed["labels"], tf.float32)

    data = tf.data.TFRecordDataset([str(path)], compression_type=compression).shuffle(30_000, seed=1).batch(BATCH)
    count = 0
    for charge, labels in data.map(decode).prefetch(2):
        raw = charge.numpy().reshape(-1, *SETTINGS.shape)
        normalization.charge(raw)
        count += len(normalization.labels(labels.numpy(), raw))
    return count


def check_epoch(stream: EventStream, expected: float) -> int:
    """Read an epoch. The number of events and the sum of their angles must be right: none is lost or repeated."""
    count, total = 0, 0.0
    for _, labels in stream.batches(1):
        count += len(labels)
        total += float(labels[:, 2:].sum(dtype=np.float64))  # x and y are measured from the centroid
    if count != len(stream) or not np.isclose(total, expected, rtol=1e-9, atol=1e-2):
        raise AssertionError(f"{count} of {len(stream)} events; sum of labels {total}, expected {expected}")
    return count


def train(stream: EventStream, steps: int) -> None:
    """Train the default network on the first batches of an epoch."""
    import itertools

    import keras

    from pixal.tasks.charge_clusters.network.likelihood import negative_log_likelihood
    from pixal.tasks.charge_clusters.network.model import build_mdn

    network = build_mdn(SETTINGS.shape)
    network.compile(keras.optimizers.Adam(0.005, global_clipnorm=1.0), negative_log_likelihood, jit_compile=False)
    batches = stream.batches(1)
    network.train_on_batch(*next(batches))  # compiles
    measured(
        "reading and training",
        BATCH * steps,
        lambda: [network.train_on_batch(*batch) for batch in itertools.islice(batches, steps)],
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--epoch", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    fit, sums = NormalizationFit(SETTINGS), np.zeros(4)
    with ShardWriter(options.folder, "train", SETTINGS.shape) as writer:
        for part in measured("simulation", options.events, lambda: list(simulated(options.events))):
            fit.add(part)
            writer.add(part)
            sums += part.labels.sum(axis=0, dtype=np.float64)
    normalization = fit.result()
    blocks = [
        Block(options.folder / shard["file"], index, count)
        for shard in writer.shards
        for index, count in enumerate(shard["blocks"])
    ]
    size = sum((options.folder / shard["file"]).stat().st_size for shard in writer.shards)
    _say(f"Arrow, LZ4: {size / options.events:.0f} bytes per event")
    stream = EventStream(blocks, SETTINGS.shape, normalization, batch_size=BATCH, seed=1)
    expected = float((sums / normalization.label_scale)[2:].sum())
    measured("Arrow, LZ4, reading in mixed batches", options.events, lambda: check_epoch(stream, expected))
    repeats = max(1, options.epoch // options.events)
    many = EventStream(blocks * repeats, SETTINGS.shape, normalization, batch_size=BATCH, seed=1)
    if options.steps:
        train(many, options.steps)
    measured(f"an epoch of {len(many):,} events", len(many), lambda: check_epoch(many, expected * repeats))
    parts = list(simulated(options.events))
    for compression in ("", "GZIP"):
        path = options.folder / f"events{compression}.tfrecord"
        title = f"TFRecord, {compression or 'not compressed'}"
        measured(f"{title}, writing", options.events, lambda p=path, c=compression: write_records(p, parts, c))
        _say(f"{title}: {path.stat().st_size / options.events:.0f} bytes per event")
        measured(f"{title}, reading", options.events, lambda p=path, c=compression: read_records(p, c, normalization))


if __name__ == "__main__":
    main()
