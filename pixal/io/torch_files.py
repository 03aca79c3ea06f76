"""Read the tensors of a PyTorch checkpoint (``.pt``, ``.pth``) without PyTorch, and without running any code in it.

A checkpoint contains a pickle: a program that can call any Python function. ``pickle`` is not used here, see
``tensor_pickles``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from pixal.io.tensor_pickles import Tensor, TensorProgram, as_dictionary

_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of files before PyTorch 1.6


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """Read the tensors of a checkpoint: a state dict, or one in an entry "state_dict".

    Args:
        content: The bytes of the file, in the ZIP format of PyTorch since 1.6 or the format before it.

    Returns:
        Read-only arrays by name, in the order of the file. Entries that are not tensors are left out.

    Raises:
        ValueError: The file is damaged, or holds something else than a dictionary of tensors. The message has one line.
    """
    try:
        is_zip = content[:4] == b"PK\x03\x04"
        saved, storages = _read_zip(content) if is_zip else _read_legacy(content)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError, IndexError) as error:
        raise ValueError(f"the file is damaged: {error}") from error
    if isinstance(saved.get("state_dict"), dict):
        saved = saved["state_dict"]
    tensors = {name: value for name, value in saved.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError("the file holds no dictionary of tensors; save model.state_dict()")
    return {str(name): tensor.view(storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_zip(content: bytes) -> tuple[dict[Any, Any], Mapping[str, bytes | memoryview]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pickles = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("the archive holds no data.pkl, so it is not a checkpoint of PyTorch")
        folder = pickles[0].removesuffix("data.pkl")

        def read(name: str, size: int | None = None) -> bytes:
            try:
                entry = archive.getinfo(folder + name)
            except KeyError:
                raise ValueError(f"the file is damaged: {name} is missing") from None
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise ValueError(f"the file is damaged: {name} is compressed, which PyTorch never does")
            if size is not None and entry.file_size != size:
                raise ValueError(f"the file is damaged: {name} has {entry.file_size} bytes instead of {size}")
            return archive.read(entry)

        if folder + "byteorder" in archive.namelist() and read("byteorder") != b"little":
            raise ValueError("the numbers are stored in big-endian order, which is not supported")
        program = TensorProgram()
        saved = program.run(io.BytesIO(read("data.pkl")))
        blocks = {key: read(f"data/{key}", storage.size) for key, storage in program.storages.items()}
    return as_dictionary(saved), blocks


def _read_legacy(content: bytes) -> tuple[dict[Any, Any], Mapping[str, bytes | memoryview]]:
    """Five pickles (magic number, version, system, the saved object, the keys of its storages), then the storages."""
    file, program = io.BytesIO(content), TensorProgram()
    if program.run(file) != _LEGACY_MAGIC or program.run(file) != _LEGACY_PROTOCOL:
        raise ValueError("this is not a checkpoint of PyTorch")
    if as_dictionary(program.run(file)).get("little_endian") is not True:
        raise ValueError("the numbers are stored in big-endian order, which is not supported")
    saved, keys = program.run(file), program.run(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != {*program.storages}:
        raise ValueError("the file is damaged: it does not list the storages of its tensors")
    position, blocks = file.tell(), {}
    for key in keys:
        storage = program.storages[key]
        count = int.from_bytes(content[position : position + 8], "little")
        position += 8
        if count != storage.count or position + storage.size > len(content):
            raise ValueError(f"the file is damaged: the tensor data of storage {key} is not whole")
        blocks[key] = memoryview(content)[position : position + storage.size]
        position += storage.size
    return as_dictionary(saved), blocks
