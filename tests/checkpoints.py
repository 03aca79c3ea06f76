"""Write checkpoints as PyTorch does, without PyTorch. Shared by the tests of what reads them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {"float16": "HalfStorage", "float32": "FloatStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    key: str,
    dtype: str,
    count: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
    view: bytes = b"",
) -> bytes:
    """The instructions that build a tensor."""
    storage = b"(" + text("storage") + named(f"torch.{dtype}") + text(key) + text("cpu") + number(count) + view + b"tQ"
    hooks = b"\x89" + named("collections.OrderedDict") + b")R"
    arguments = b"(" + storage + number(offset) + numbers(shape) + numbers(strides) + hooks + b"t"
    return named("torch._utils._rebuild_tensor_v2") + arguments + b"R"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """The pickle of a state dict, with the versions of its modules."""
    pairs = b"".join(text(name) + value for name, value in items.items())
    empty = named("collections.OrderedDict") + b")R"
    return b"\x80\x02" + empty + b"(" + pairs + b"u" + b"}" + text("_metadata") + empty + b"sb" + b"."


def zipped(saved: bytes, blocks: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A checkpoint in the format since PyTorch 1.6."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("model/data.pkl", saved)
        archive.writestr("model/byteorder", "little")
        for key, block in blocks.items():
            archive.writestr(f"model/data/{key}", block)
        archive.writestr("model/version", "3\n")
    return file.getvalue()


def legacy(saved: bytes, blocks: Mapping[str, bytes], counts: Mapping[str, int]) -> bytes:
    """A checkpoint in the format before PyTorch 1.6."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    start = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system))
    data = b"".join(struct.pack("<q", counts[key]) + block for key, block in blocks.items())
    return start + saved + pickle.dumps(list(blocks), 2) + data


def checkpoint(tensors: Mapping[str, NDArray[Any]], *, old: bool = False) -> bytes:
    """A state dict of contiguous tensors."""
    items, blocks, counts = {}, {}, {}
    for index, (name, values) in enumerate(tensors.items()):
        key = str(index)
        strides = tuple(stride // values.itemsize for stride in np.empty(values.shape, values.dtype).strides)
        dtype = TYPES[values.dtype.name]
        items[name] = tensor(key, dtype, values.size, values.shape, strides, view=b"N" if old else b"")
        blocks[key], counts[key] = np.ascontiguousarray(values).tobytes(), values.size
    return legacy(dictionary(items), blocks, counts) if old else zipped(dictionary(items), blocks)
