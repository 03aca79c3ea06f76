"""Checkpoints that attack whoever reads them: nothing in them runs, and they cost neither time nor memory."""

from __future__ import annotations

import gc
import os
import pickle
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import checkpoint, dictionary, legacy, named, number, tensor, text, zipped
from tries import tries

from pixal.io.torch_files import read_state_dict

BLOCK = {"0": np.arange(12, dtype=np.float32).tobytes()}
TENSOR = tensor("0", "FloatStorage", 12, (12,), (1,))


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> Any:
        return self._reduced


def both_formats(saved: bytes) -> list[bytes]:
    return [zipped(saved, BLOCK), legacy(saved, BLOCK, {"0": 12})]


def refused(content: bytes) -> None:
    """Reading fails with one line, within two seconds of processor time."""
    gc.freeze()  # going over all objects of a process that has run many tests takes seconds
    start = time.process_time()
    with pytest.raises(ValueError, match=r".") as caught:
        read_state_dict(content)
    gc.unfreeze()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.process_time() - start < 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_function_is_called(protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    for attack in (
        Calls(os.system, f"rm {victim}"),
        Calls(os.remove, str(victim)),
        Calls(eval, f"__import__('os').remove({str(victim)!r})"),
        Calls(__import__, "os"),
        Calls(print, "called"),
    ):
        for saved in (attack, {"a": attack}, {"state_dict": {"a": [({"b": attack},)]}}):
            for content in both_formats(pickle.dumps(saved, protocol)):
                refused(content)
        refused(pickle.dumps(attack, protocol))
    assert victim.exists()


def test_no_other_object_is_built() -> None:
    array = pickle.dumps({"a": np.zeros(3)}, 2)
    attributes = b"\x80\x02" + named("torch.FloatStorage") + b"}" + text("__class__") + text("b") + b"sb."
    called_twice = b"\x80\x02" + named("collections.OrderedDict") + b")R)R."
    called_storage = b"\x80\x02" + named("torch.FloatStorage") + number(1 << 40) + b"\x85R."
    with_arguments = b"\x80\x02" + named("collections.OrderedDict") + b"(" + text("a") + b"tR."
    similar = b"\x80\x02" + named("torch._utils._rebuild_tensor_v2.__globals__") + b"."
    instance = b"\x80\x02(" + b"icollections\nOrderedDict\n."
    persistent = b"\x80\x02" + text("storage") + b"Q."
    for saved in (array, attributes, called_twice, called_storage, with_arguments, similar, instance, persistent):
        for content in both_formats(saved):
            refused(content)


def test_sizes_and_nesting_cost_nothing() -> None:
    deep = b"\x80\x02)" + b"\x85" * 100_000
    as_key = b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s."
    doubling = b"\x80\x02})" + b"q\x00h\x00h\x00\x86" * 60 + b"K\x01s."
    endless = b"\x80\x02" + b"N" * 1_100_000 + b"."
    far_memo = b"\x80\x02}r\xff\xff\xff\xff."
    long_text = b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"a."
    long_number = b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a."
    shape = b"(" + number(2**62) * 1000 + b"t"
    large_shape = TENSOR.replace(b"(" + number(12) + b"t", shape, 1)
    for saved in (
        deep + b".",
        as_key,
        doubling,
        endless,
        far_memo,
        long_text,
        long_number,
        dictionary({"a": large_shape}),
    ):
        for content in both_formats(saved):
            refused(content)


def test_damaged_files_are_refused_or_read_as_numbers() -> None:
    """A changed byte may change a number, but nothing worse."""
    values = {f"layer{index}.weight": np.arange(12, dtype=np.float32) for index in range(3)}
    generator = np.random.default_rng(0)
    for content in (checkpoint(values), checkpoint(values, old=True)):
        for length in range(0, len(content) - 1, 7):
            refused(content[:length])
        for _ in range(tries(2000, 100_000)):
            damaged = bytearray(content)
            for position in generator.integers(len(content), size=generator.integers(1, 4)):
                damaged[position] = generator.integers(256)
            with suppress(ValueError):
                read = read_state_dict(bytes(damaged))
                assert all(array.dtype.kind in "fiu" and array.size <= 24 for array in read.values())
