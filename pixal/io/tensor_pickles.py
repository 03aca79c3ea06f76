"""The pickles inside checkpoints of PyTorch: a small stack machine that can only build dictionaries of tensors."""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

_MAX_INSTRUCTIONS = 1_000_000  # a ResNet-152 has about 30,000
_MAX_DIMENSIONS = 8
_STORAGES: dict[str, np.dtype[Any]] = {
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.LongStorage": np.dtype("<i8"),
}
_DICTIONARY, _TENSOR = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2"
_PUSHED = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_MEMO = {"BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class _Global:
    """The name of a Python object, which is never imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A block of ``count`` numbers, whose bytes are stored outside the pickle under ``key``."""

    key: str
    dtype: np.dtype[Any]
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Tensor:
    """Where the elements of a tensor are in its storage; strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, content: bytes | memoryview) -> NDArray[Any]:
        """The tensor as a read-only view of the bytes of its storage."""
        block = np.frombuffer(content, self.storage.dtype, self.storage.count)
        steps = tuple(stride * block.itemsize for stride in self.strides)
        return as_strided(block[self.offset :], self.shape, steps, writeable=False)


class _Mark:
    """A position on the stack."""


class TensorProgram:
    """Carries out the instructions of pickles that only build dictionaries of tensors.

    Attributes:
        storages: The storages that the pickles mention, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._instructions = 0

    def run(self, file: io.BytesIO) -> Any:
        """Run the pickle at the current position; return its object, and leave the position behind it.

        Raises:
            ValueError: An instruction is not allowed, or the pickle is damaged.
            IndexError: The pickle is damaged: it takes more from the stack than there is.
        """
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        while code := file.read(1):
            self._instructions += 1
            if self._instructions > _MAX_INSTRUCTIONS:
                raise ValueError(f"the pickle has more than {_MAX_INSTRUCTIONS} instructions")
            if code not in _CODES:
                raise ValueError(f"the pickle holds the instruction {code!r}, which no tensor needs; it is refused")
            instruction = _CODES[code]
            if instruction.name == "STOP":
                return self._stack.pop()
            if instruction.name == "GLOBAL":
                self._stack.append(_allowed(file.readline(), file.readline()))
            else:
                self._step(instruction.name, instruction.arg.reader(file) if instruction.arg else None)
        raise ValueError("the file is damaged: its pickle has no end")

    def _step(self, code: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        if code in _PUSHED:
            stack.append(argument)
        elif code in _CONSTANTS:
            stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            count = _TUPLES[code]
            items = tuple(stack.pop() for _ in range(count))[::-1]
            stack.append(items)
        elif code in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            if argument not in memo:
                raise ValueError("the pickle is damaged: it refers to an object that it does not hold")
            stack.append(memo[argument])
        elif code in _BUILDERS:
            _BUILDERS[code](self)

    def _push_mark(self) -> None:
        self._stack.append(_Mark())

    def _push_empty_dict(self) -> None:
        self._stack.append({})

    def _push_empty_list(self) -> None:
        self._stack.append([])

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while not isinstance(item := self._stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def _build_tuple(self) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._insert([key, value])

    def _set_items(self) -> None:
        self._insert(self._pop_to_mark())

    def _insert(self, items: list[Any]) -> None:
        target = as_dictionary(self._stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):  # the hash of nested tuples can take forever
                raise ValueError("the pickle holds a dictionary whose keys are not names; it is refused")
            target[key] = value

    def _append(self) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _append_all(self) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("the pickle is damaged: it appends to something that is not a list")
        target.extend(items)

    def _call(self) -> None:
        """REDUCE: only the two calls that state dicts need have a meaning."""
        arguments, function = self._stack.pop(), self._stack.pop()
        if function == _Global(_DICTIONARY) and arguments == ():
            self._stack.append({})
        elif function == _Global(_TENSOR) and isinstance(arguments, tuple):
            self._stack.append(_tensor(arguments))
        else:
            raise ValueError("the pickle calls something else than what builds a tensor; it is refused")

    def _set_attributes(self) -> None:
        """BUILD: a state dict has one attribute, the versions of its modules, which is dropped."""
        attributes = self._stack.pop()
        as_dictionary(attributes)
        as_dictionary(self._stack[-1])

    def _push_storage(self) -> None:
        """BINPERSID: ("storage", type, key, device, number of elements), in old files with a sixth value, None."""
        match self._stack.pop():
            case ("storage", _Global() as kind, str(key), str(), int(count), *view) if view in ([], [None]):
                if kind.name not in _STORAGES or not 0 <= count < 2**63:
                    raise ValueError("the pickle holds a storage with an impossible type or size; it is refused")
                storage = Storage(key, _STORAGES[kind.name], count)
                if self.storages.setdefault(key, storage) != storage:
                    raise ValueError(f"the pickle describes the storage {key} in two ways; it is refused")
                self._stack.append(storage)
            case _:
                raise ValueError("the pickle refers to something that is not the storage of a tensor; it is refused")


_BUILDERS: dict[str, Callable[[TensorProgram], None]] = {
    "MARK": TensorProgram._push_mark,
    "EMPTY_DICT": TensorProgram._push_empty_dict,
    "EMPTY_LIST": TensorProgram._push_empty_list,
    "TUPLE": TensorProgram._build_tuple,
    "SETITEM": TensorProgram._set_item,
    "SETITEMS": TensorProgram._set_items,
    "APPEND": TensorProgram._append,
    "APPENDS": TensorProgram._append_all,
    "REDUCE": TensorProgram._call,
    "BUILD": TensorProgram._set_attributes,
    "BINPERSID": TensorProgram._push_storage,
}


# The instructions that are allowed, by the byte that stands for them.
_CODES = {
    instruction.code.encode("latin-1"): instruction
    for instruction in pickletools.opcodes
    if instruction.name in {*_PUSHED, *_CONSTANTS, *_TUPLES, *_MEMO, *_BUILDERS, "GLOBAL", "PROTO", "STOP"}
}


def _allowed(module: bytes, attribute: bytes) -> _Global:
    name = b".".join((module.strip(), attribute.strip())).decode("ascii", "replace")
    if name not in (*_STORAGES, _DICTIONARY, _TENSOR):
        raise ValueError(
            f"the pickle names {name[:80]!r}, and only tensors are read, because other objects can run any code; "
            "save model.state_dict(), with numbers of 16, 32 or 64 bits"
        )
    return _Global(name)


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """A tensor from (storage, offset, shape, strides, requires_grad, hooks, ...), whose bounds are checked."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *_):
            numbers = (offset, *shape, *strides)
            is_valid = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
            if not is_valid or len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
                raise ValueError("the pickle is damaged: a tensor has an impossible shape")
            count = math.prod(shape)
            last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            if count > storage.count or (count and last >= storage.count) or offset > storage.count:
                raise ValueError(f"the pickle is damaged: a tensor of shape {shape} is larger than its storage")
            return Tensor(storage, offset, shape, strides)
    raise ValueError("the pickle is damaged: a tensor has no storage")


def as_dictionary(value: Any) -> dict[Any, Any]:
    """Return ``value``, which must be a dictionary; raise ValueError if it is something else."""
    if not isinstance(value, dict):
        raise ValueError("the pickle holds something else than a dictionary of tensors; save model.state_dict()")
    return value
