"""A pickle machine that can build dictionaries of tensors and nothing else.

A pickle is a program, and Python's own unpickler runs whatever it says. This one knows the few instructions that
``torch.save`` of a state dict needs and a fixed table of names; no name is ever imported and nothing but the small
functions below is ever called. Everything else is refused with the name that was asked for. Tensors come out as
`TensorRef`: where they lie in which storage, no numbers yet.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kexue.checkpoints.dtypes import BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2
from kexue.errors import CheckpointError

__all__ = ["BytesSource", "Source", "StorageRef", "TensorRef", "load_pickle"]


class Source(Protocol):
    """Where the instructions come from."""

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes; EOFError if there are fewer, before anything is allocated."""


class BytesSource:
    """Instructions in memory."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self.data) - self.at:
            raise EOFError
        self.at += size
        return self.data[self.at - size : self.at]


@dataclass(frozen=True)
class StorageRef:
    """A stretch of raw numbers that tensors point into.

    Attributes:
        key: name of the record in the file.
        dtype: its dtype; None for untyped bytes, whose tensors say it.
        count: number of elements (bytes when untyped).
        start: first element, for a view of another storage (only in the old format).
        root_count: elements of the storage that is viewed; None when this is no view.
    """

    key: str
    dtype: np.dtype | None
    count: int
    start: int = 0
    root_count: int | None = None


@dataclass(frozen=True)
class TensorRef:
    """A tensor as offset, shape and strides (in elements) over a storage; not yet checked against its size."""

    storage: StorageRef
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RefusedError(Exception):
    """The program asks for something that is not needed to build tensors."""


@dataclass(frozen=True)
class _Function:
    call: Callable[..., Any]


@dataclass(frozen=True)
class _DType:
    """A dtype, or the type of a storage; None for untyped storage."""

    dtype: np.dtype | None


_MARK = object()
_PLAIN_KEYS = (str, int, float, bytes, type(None))  # hashing a nested tuple could take for ever


def _ints(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(type(n) is int for n in value):
        raise _RefusedError("a shape or stride is not a tuple of whole numbers")
    return tuple(value)


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> TensorRef:
    """``torch._utils._rebuild_tensor`` and ``_rebuild_tensor_v2``; rest: requires_grad, hooks, metadata."""
    return _tensor(storage, storage.dtype, (offset, size, stride), rest[2:])


def _rebuild_tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> TensorRef:
    """For dtypes that have no storage type of their own; rest: requires_grad, hooks, dtype, metadata."""
    return _tensor(storage, rest[2].dtype, (offset, size, stride), rest[3:])


def _tensor(storage: Any, dtype: Any, layout: tuple[Any, Any, Any], metadata: tuple[Any, ...]) -> TensorRef:
    offset, size, stride = layout
    if not isinstance(storage, StorageRef) or not isinstance(dtype, np.dtype) or type(offset) is not int:
        raise _RefusedError("a tensor without storage, dtype or offset")
    if any(isinstance(table, dict) and any(table.values()) for table in metadata):
        raise _RefusedError("a tensor stored as conjugated or negated (use resolve_conj or resolve_neg before saving)")
    return TensorRef(storage, dtype, offset, _ints(size), _ints(stride))


def _rebuild_parameter(data: Any, *_: Any) -> TensorRef:
    if not isinstance(data, TensorRef):
        raise _RefusedError("a parameter is not made of a tensor")
    return data


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    table: dict[Any, Any] = {}
    for key, value in pairs:
        _set(table, key, value)
    return table


def _set(table: Any, key: Any, value: Any) -> None:
    if not isinstance(table, dict) or not isinstance(key, _PLAIN_KEYS):
        raise _RefusedError("a dictionary has a key that is neither text nor number")
    table[key] = value


_DTYPES = {
    "Double float64": np.float64,
    "Float float32": np.float32,
    "Half float16": np.float16,
    "BFloat16 bfloat16": BFLOAT16,
    "Long int64": np.int64,
    "Int int32": np.int32,
    "Short int16": np.int16,
    "Char int8": np.int8,
    "Byte uint8": np.uint8,
    "Bool bool": np.bool_,
    "ComplexFloat complex64": np.complex64,
    "ComplexDouble complex128": np.complex128,
    "UInt16 uint16": np.uint16,
    "UInt32 uint32": np.uint32,
    "UInt64 uint64": np.uint64,
    "Float8_e5m2 float8_e5m2": FLOAT8_E5M2,
    "Float8_e4m3fn float8_e4m3fn": FLOAT8_E4M3,
}
_GLOBALS: dict[str, _Function | _DType] = {
    "collections.OrderedDict": _Function(_ordered_dict),
    "torch._utils._rebuild_tensor": _Function(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v3": _Function(_rebuild_tensor_v3),
    "torch._utils._rebuild_parameter": _Function(_rebuild_parameter),
    "torch._utils._rebuild_parameter_with_state": _Function(_rebuild_parameter),
    "torch.Size": _Function(lambda sizes=(): _ints(sizes)),
    "torch.UntypedStorage": _DType(None),
    "torch.storage.UntypedStorage": _DType(None),
    "torch.storage._UntypedStorage": _DType(None),
}
for _names, _kind in _DTYPES.items():
    _storage, _name = _names.split()
    _GLOBALS[f"torch.{_storage}Storage"] = _GLOBALS[f"torch.{_name}"] = _DType(np.dtype(_kind))


def _persistent(value: Any) -> StorageRef:
    """``("storage", type, key, location, count)`` and, in the old format, what it is a view of."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise _RefusedError("a reference to something that is no storage")
    kind, key, size = value[1], value[2], value[4]
    if not isinstance(kind, _DType) or not isinstance(key, str) or type(size) is not int or size < 0:
        raise _RefusedError("a storage is described wrongly")
    view = value[5] if len(value) == 6 else None
    if view is None:
        return StorageRef(key, kind.dtype, size)
    if not isinstance(view, tuple) or len(view) != 3:
        raise _RefusedError("a storage is described wrongly")
    _, start, length = view
    if type(start) is not int or type(length) is not int or start < 0 or length < 0 or start + length > size:
        raise _RefusedError("a view is not inside its storage")
    return StorageRef(key, kind.dtype, length, start, size)


class _Machine:
    """Runs one pickle; instructions are the methods in the table below."""

    def __init__(self, source: Source) -> None:
        self.take = source.take
        self.storages: dict[str, StorageRef] = {}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.take(1)
            if code == b".":
                return self.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise _RefusedError(f"the instruction {code!r}, which a state dict does not need")
            operation(self)

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise _RefusedError("an instruction without its argument")
        return value

    def marked(self) -> list[Any]:
        """Everything above the last mark, which goes away."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise _RefusedError("an instruction without its mark")

    def tuple_of(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    def text(self, size: int) -> None:
        self.push(self.take(size).decode("utf-8", "surrogatepass"))

    def line(self) -> str:
        out = bytearray()
        while (byte := self.take(1)) != b"\n":
            out += byte
            if len(out) > 1000:
                raise _RefusedError("a name of more than 1000 characters")
        return out.decode()

    def named(self, module: str, name: str) -> None:
        known = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            raise _RefusedError(f"the global {module}.{name}, which is no part of a tensor")
        self.push(known)

    def global_(self) -> None:
        self.named(self.line(), self.line())

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise _RefusedError("a global whose name is no text")
        self.named(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise _RefusedError("a call of something that is no function")
        self.push(function.call(*arguments))

    def persistent(self) -> None:
        storage = _persistent(self.pop())
        self.storages[storage.key] = storage
        self.push(storage)

    def build(self) -> None:
        """Attributes of an object. State dicts carry ``_metadata`` (versions of modules), which says nothing here."""
        self.pop()
        if not isinstance(self.stack[-1], (dict, TensorRef)):
            raise _RefusedError("attributes of something that is no dictionary")

    def set_items(self, values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            _set(self.stack[-1], key, value)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _RefusedError("an element of something that is no list")
        self.stack[-1].extend(values)


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


_Operation = Callable[[_Machine], Any]
_OPERATIONS: dict[bytes, _Operation] = {
    b"\x80": lambda m: m.take(1),  # protocol
    b"\x95": lambda m: m.take(8),  # frame
    b"(": lambda m: m.push(_MARK),
    b"0": lambda m: m.pop(),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"J": lambda m: m.push(_signed(m.take(4))),
    b"\x8a": lambda m: m.push(_signed(m.take(m.number(1)))),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    b"X": lambda m: m.text(m.number(4)),
    b"\x8c": lambda m: m.text(m.number(1)),
    b"\x8d": lambda m: m.text(m.number(8)),
    b"U": lambda m: m.text(m.number(1)),  # str of Python 2
    b"T": lambda m: m.text(m.number(4)),
    b"C": lambda m: m.push(m.take(m.number(1))),
    b"B": lambda m: m.push(m.take(m.number(4))),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"]": lambda m: m.push([]),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.marked()),
    b"}": lambda m: m.push({}),
    b"s": lambda m: m.set_item(),
    b"u": lambda m: m.set_items(m.marked()),
    b"q": lambda m: m.memo.__setitem__(m.number(1), m.stack[-1]),
    b"r": lambda m: m.memo.__setitem__(m.number(4), m.stack[-1]),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"h": lambda m: m.push(m.memo[m.number(1)]),
    b"j": lambda m: m.push(m.memo[m.number(4)]),
    b"c": lambda m: m.global_(),
    b"\x93": lambda m: m.stack_global(),
    b"R": lambda m: m.reduce(),
    b"b": lambda m: m.build(),
    b"Q": lambda m: m.persistent(),
}


def load_pickle(source: Source, where: str) -> tuple[Any, dict[str, StorageRef]]:
    """Run one pickle and return what it built, and the storages it mentioned, by key.

    Returns:
        Dicts, lists, tuples, texts, numbers and `TensorRef`; and the storages.

    Raises:
        CheckpointError: it is corrupt, or asks for anything that is not needed to build tensors; ``where`` names
            the file, the message what was asked for.
    """
    try:
        machine = _Machine(source)
        return machine.run(), machine.storages
    except _RefusedError as error:
        raise CheckpointError(
            f"{where}: expected a plain dictionary of tensors, received {error}. Nothing was run. If you trust "
            "the file, load it with PyTorch and save model.state_dict() alone, or save it as safetensors."
        ) from error
    except EOFError as error:
        raise CheckpointError(f"{where}: the pickle is cut off. Copy the file again.") from error
    # What nonsense can make the few instructions above raise: a missing argument, a text as a number, and so on.
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise CheckpointError(
            f"{where}: the pickle is corrupt ({type(error).__name__}). Copy the file again."
        ) from error
