"""Batches from shards: no event lost or repeated, in an order that a seed repeats, from any step on."""

import numpy as np
import pytest

from pixal.tasks.charge_clusters import shards
from pixal.tasks.charge_clusters.normalization import Normalization
from pixal.tasks.charge_clusters.reading import Events
from pixal.tasks.charge_clusters.shards import Block, EventStream, ShardWriter

SHAPE = (2, 3, 1)
PLAIN = Normalization(
    logarithm=False, mean=0, deviation=1, positive=(1e6,), negative=(1e6,), thresholds=None, bits=None,
    label_scale=(1, 1, 1, 1),
)  # fmt: skip


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    """500 numbered events in 72 blocks of 5 shards; small blocks and pools, as a large set would need."""
    monkeypatch.setattr(shards, "_BLOCK_BYTES", 4 * 6 * 7)
    monkeypatch.setattr(shards, "_SHARD_BLOCKS", 16)
    monkeypatch.setattr(shards, "_POOL_BLOCKS", 5)
    charge = np.arange(500 * 6, dtype=np.float32).reshape(500, *SHAPE)
    events = Events(np.arange(500), charge, np.repeat(np.arange(500, dtype=np.float32)[:, None], 4, 1))
    with ShardWriter(tmp_path, "train", SHAPE) as writer:
        writer._block = 7
        for start in range(0, 500, 33):
            writer.add(events.select(slice(start, start + 33)))
    assert writer.events == 500
    assert len(writer.shards) == 5
    return [
        Block(tmp_path / shard["file"], index, count)
        for shard in writer.shards
        for index, count in enumerate(shard["blocks"])
    ]


def stream(blocks, *, batch_size=16, seed=3):
    return EventStream(blocks, SHAPE, PLAIN, batch_size=batch_size, seed=seed)


def numbers(batches):
    return [labels[:, 0].astype(int) for _, labels in batches]


@pytest.mark.parametrize("batch_size", [1, 16, 500, 700])
@pytest.mark.parametrize("seed", [None, 3])
def test_each_event_comes_once_per_epoch_with_its_charge(blocks, batch_size, seed):
    batches = list(stream(blocks, batch_size=batch_size, seed=seed).batches(1))
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(batches) == stream(blocks, batch_size=batch_size).steps
    order = np.concatenate(numbers(batches))
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    charge = np.concatenate([charge for charge, _ in batches])
    np.testing.assert_allclose(charge.reshape(500, 6)[:, 5] * 1e6, order * 6 + 5, rtol=1e-5)
    if seed is None:
        np.testing.assert_array_equal(order, np.arange(500))


def test_a_seed_repeats_the_order_and_epochs_differ(blocks):
    first, again, other = (np.concatenate(numbers(stream(blocks).batches(epoch))) for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, np.concatenate(numbers(stream(blocks, seed=4).batches(1))))


def test_events_of_far_places_are_mixed(blocks):
    """Each pool holds events of blocks from all files, so a batch spans most of the set."""
    spans = [np.ptp(batch) for batch in numbers(stream(blocks, batch_size=35).batches(1))[:-1]]
    assert np.median(spans) > 250
    order = np.concatenate(numbers(stream(blocks).batches(1)))
    assert (np.abs(np.diff(order)) == 1).mean() < 0.1


@pytest.mark.parametrize("seed", [None, 3])
def test_an_epoch_continues_at_any_step(blocks, seed):
    whole = numbers(stream(blocks, seed=seed).batches(2))
    for step in range(len(whole) + 1):
        rest = numbers(stream(blocks, seed=seed).batches(2, step))
        assert len(rest) == len(whole) - step
        for expected, batch in zip(whole[step:], rest, strict=True):
            np.testing.assert_array_equal(batch, expected)


def test_steps_that_are_done_are_not_read(blocks, monkeypatch):
    read = []
    original = shards._Files.read
    monkeypatch.setattr(shards._Files, "read", lambda self, block: read.append(block) or original(self, block))
    list(stream(blocks).batches(1, 30))
    assert len(read) <= 10  # the last 20 events lie in one or two pools of 5 blocks


def test_the_same_events_give_the_same_bytes(tmp_path):
    events = Events(np.arange(40), np.ones((40, *SHAPE), np.float32), np.ones((40, 4), np.float32))
    for name in ("first", "second"):
        with ShardWriter(tmp_path / name, "train", SHAPE) as writer:
            writer.add(events)
    assert (tmp_path / "first/train-00000.arrow").read_bytes() == (tmp_path / "second/train-00000.arrow").read_bytes()


def test_a_damaged_shard_is_named(blocks):
    path = blocks[0].path
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(shards.InputError, match=r"train-00000\.arrow is damaged .*run preprocess --force"):
        list(stream(blocks).batches(1))
