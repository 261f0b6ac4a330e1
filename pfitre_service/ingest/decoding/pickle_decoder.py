"""Documents as bluesky's own 0MQ publisher sends them, read without trusting the sender.

A message is ``prefix + b" " + name + b" " + pickle``. An ordinary unpickler runs whatever code the sender names. Here
nothing that a pickle names is ever looked up: the names that dictionaries and numpy arrays need lead to readers of
our own, and an instance of any other class (an enumeration, a path) becomes a text that says what it was. The
unpickler is Python's own in Python, not the faster one in C: that one lets a short message claim gigabytes.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.decoding.decoded import DOCUMENT_NAMES
from pfitre_service.ingest.decoding.pickled_arrays import PickledArray, PickledType, from_buffer, scalar

_MAX_DEPTH = 100
_MAX_OPERATIONS = 1_000_000
"""Of one message. A list of 100,000 numbers takes 100,000, an image fewer than fifty."""
_MAX_VALUES = 300_000
_MAX_S = 1.0
"""For the operations of one message, without what its bytes take to copy; frames wait in the socket meanwhile."""
_LOOKS_EVERY = 4096
_MAX_BITS = 1024
"""Of a whole number: writing out longer ones takes time in the square of their length."""
_MAX_PLACE = 1 << 31
_SPARE_BYTES = 1 << 20
_SPARE_REPEATED = 16 << 20
"""Bytes of texts and arrays that a message may repeat beyond its own length; honest ones repeat keys and uids."""
_MAX_ARGUMENTS = 64
"""Of a class; paths have the most, one for each folder."""
_MAX_CLASS_NAME = 200
_ARRAY_COUNTS_AS = 30
"""An array costs whoever looks at it more than a number does."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One document; `foreign` names the classes whose instances became text."""

    name: str
    document: dict[str, Any]
    foreign: frozenset[str]


class UnknownNameError(DocumentError):
    """A message whose document name Bluesky does not know."""


def decode(message: bytes, *, max_bytes: int, prefix: bytes = b"") -> Decoded | None:
    """The document in `message`, or None if it has another prefix than the one asked for (if one is).

    Raises `DocumentError` for everything that is no document of at most `max_bytes`. Values are dicts with text as
    keys, lists (of sets too), tuples, text, bytes, numbers, and read-only arrays of numbers or text.
    The bytes of an array are copied out of the message once.
    """
    if len(message) > max_bytes:
        raise DocumentError(f"a message of {len(message):,} bytes is larger than the {max_bytes:,} that are allowed")
    end_of_prefix = message.find(b" ")
    end_of_name = message.find(b" ", end_of_prefix + 1)
    if end_of_prefix < 0 or end_of_name < 0:
        raise DocumentError(f"expected a prefix, a name and a document, apart by spaces; got {message[:40]!r}")
    if prefix and message[:end_of_prefix] != prefix:
        return None
    text = message[end_of_prefix + 1 : end_of_name].decode("ascii", "replace")
    if text not in DOCUMENT_NAMES:
        raise UnknownNameError(f"unknown document name {text[:60]!r}")
    size = len(message) - end_of_name - 1
    try:
        return _read(text, message, end_of_name + 1)
    except DocumentError as error:
        raise DocumentError(f"a {text} document of {size:,} bytes is refused: {error}") from error
    except Exception as error:
        # The edge to the network: a hostile pickle may raise anything. Counted and told of by the caller.
        said = f"{type(error).__name__}: {error!s:.200}"
        raise DocumentError(f"a {text} document of {size:,} bytes cannot be read: {said}") from error


def _read(name: str, message: bytes, start: int) -> Decoded:
    unpickler = _DocumentUnpickler(message, start)
    plain = _Plain(values_left=_MAX_VALUES, bytes_left=len(message) - start + _SPARE_REPEATED)
    document = plain.convert(unpickler.load(), 0)
    if not isinstance(document, dict):
        raise DocumentError(f"expected a table of keys, got {type(document).__name__}")
    return Decoded(name, document, frozenset(plain.foreign))


class _Foreign:
    """Stands for a class that is not known here, and for its instances."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments

    def __call__(self, *arguments: Any) -> _Foreign:
        return _Foreign(self.name, arguments)

    def __str__(self) -> str:
        """What it was and, if that is one text or number, as enumerations are, what it held."""
        match self.arguments:
            case (str() | bool() | int() | float() as value,):
                return str(value)[:200]
        return f"({self.name})"


class _Set(list[Any]):
    """Stands for a set: what a stranger sends is never hashed."""


def _listed(items: Any) -> list[Any]:
    """The items of a set, which becomes a list."""
    if not isinstance(items, list):
        raise DocumentError(f"expected the items of a set as a list, got {type(items).__name__}")
    return items


def _member(owner: Any, name: Any) -> _Foreign:
    """Python 3.11.2, Debian 12's, pickles a member of an enumeration as getattr(class, its name): the name is what
    there is to say."""
    if not (isinstance(owner, _Foreign) and isinstance(name, str)):
        raise DocumentError("a message asks for an attribute of something that is no enumeration")
    return owner(name)


_READERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("builtins", "getattr"): _member,
    ("builtins", "set"): _listed,
    ("builtins", "frozenset"): _listed,
    ("collections", "OrderedDict"): dict,
    ("numpy", "dtype"): PickledType,
    ("numpy", "ndarray"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy._core.numeric", "_frombuffer"): from_buffer,
    ("numpy.core.numeric", "_frombuffer"): from_buffer,
}


def _counting(operation: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(unpickler: Any) -> None:
        unpickler._counted()
        operation(unpickler)

    return counted


class _DocumentUnpickler(pickle._Unpickler):
    """Python's unpickler without the operations that look up, call or change anything but our readers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    stack: list[Any]
    memo: dict[int, Any]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, message: bytes, start: int) -> None:
        stream = io.BytesIO(message)  # shares the message's memory; what is read out of it is the one copy
        stream.seek(start)
        super().__init__(stream)
        self._size = len(message) - start
        self._bytes_left = self._size + _SPARE_BYTES
        """That arrays may be made of: each byte of a message once."""

    def load(self) -> Any:
        """The value that the message holds, within `_MAX_OPERATIONS` and `_MAX_S`. Raises DocumentError."""
        self._operations = 0
        self._until = time.thread_time() + _MAX_S
        return super().load()

    def _counted(self) -> None:
        self._operations += 1
        if self._operations > _MAX_OPERATIONS:
            raise DocumentError(f"it takes more than {_MAX_OPERATIONS:,} operations to read")
        if self._operations % _LOOKS_EVERY == 0 and time.thread_time() > self._until:
            raise DocumentError(f"it takes more than {_MAX_S:g} s to read")

    def _spend(self, data: Any) -> None:
        self._bytes_left -= len(data) if isinstance(data, bytes | bytearray) else 0
        if self._bytes_left < 0:
            raise DocumentError("it makes more of its bytes into arrays than it has")

    def find_class(self, module: str, name: str) -> Any:
        """The reader for what the pickle names; nothing is imported."""
        if len(module) > _MAX_CLASS_NAME or len(name) > _MAX_CLASS_NAME:
            raise DocumentError(f"expected the name of a class in {_MAX_CLASS_NAME} characters")
        return _READERS.get((module, name)) or _Foreign(f"{module}.{name}"[:120])

    # Keys become text before they are hashed: the hash of a text cannot be foreseen, while numbers and tuples can be
    # chosen so that each one meets all others.

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise DocumentError(f"expected a dict before its items, got {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, _Set):
            raise DocumentError(f"expected a set before its items, got {type(target).__name__}")
        target.extend(items)

    def _empty_set(self) -> None:
        self.append(_Set())

    def _frozenset(self) -> None:
        items = self.pop_mark()  # first: it brings back the stack that is appended to
        self.append(_Set(items))

    def _put(self) -> None:
        place = int(self.readline()[:-1])
        if not 0 <= place < _MAX_PLACE:
            raise DocumentError(f"expected a place from 0 to {_MAX_PLACE:,} to remember a value at")
        self.memo[place] = self.stack[-1]

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        reader = self.stack[-1]
        known = isinstance(reader, _Foreign) or any(reader is known for known in _READERS.values())
        if not isinstance(arguments, tuple) or not known or len(arguments) > _MAX_ARGUMENTS:
            raise DocumentError(f"expected a class and at most {_MAX_ARGUMENTS} arguments")
        if reader is dict and arguments:
            raise DocumentError("expected an empty OrderedDict")
        for argument in arguments:
            self._spend(argument)
        self.stack[-1] = reader(*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, PickledArray | PickledType):
            if not isinstance(state, tuple) or len(state) > _MAX_ARGUMENTS:
                raise DocumentError("expected the parts of an array or of its type")
            for part in state:
                self._spend(part)
            target.set_state(state)
        elif not isinstance(target, _Foreign):
            raise DocumentError(f"expected an array before its state, got {type(target).__name__}")

    def _bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        if size > self._size:
            raise DocumentError(f"{size:,} bytes are announced in a message of {self._size:,}")
        self.append(self.read(size))  # as bytes: a bytearray would be a second copy

    dispatch[pickle.SETITEM[0]] = _setitem
    dispatch[pickle.SETITEMS[0]] = _setitems
    dispatch[pickle.ADDITEMS[0]] = _additems
    dispatch[pickle.EMPTY_SET[0]] = _empty_set
    dispatch[pickle.FROZENSET[0]] = _frozenset
    dispatch[pickle.PUT[0]] = _put
    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.NEWOBJ[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray8
    for _operation in (
        pickle.INST,
        pickle.DICT,
        pickle.OBJ,
        pickle.NEWOBJ_EX,
        pickle.EXT1,
        pickle.EXT2,
        pickle.EXT4,
        pickle.PERSID,
        pickle.BINPERSID,
        pickle.NEXT_BUFFER,
        pickle.READONLY_BUFFER,
    ):
        del dispatch[_operation[0]]
    dispatch = {code: _counting(operation) for code, operation in dispatch.items()}


def _key(key: Any) -> str:
    """A key as the text that it stands for; of another class the text of the instance."""
    if isinstance(key, int) and key.bit_length() > _MAX_BITS:
        raise DocumentError(f"expected text as keys, got a number of {key.bit_length():,} bits")
    if isinstance(key, str | int | float | _Foreign):
        return str(key)
    raise DocumentError(f"expected text as keys, got {type(key).__name__}")


@dataclass(slots=True)
class _Plain:
    """Puts arrays in the place of what stood for them, and refuses documents that unfold without end.

    A pickle may refer to the same value many times, and so be exponentially larger than its message.
    """

    values_left: int
    bytes_left: int
    """Of texts and arrays, each time that they are referred to: whoever copies the document has to copy them."""
    foreign: set[str] = field(default_factory=set)

    def convert(self, value: Any, depth: int) -> Any:
        self._spend(value, depth)
        if isinstance(value, dict):
            return {self._key(key): self.convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple([self.convert(item, depth + 1) for item in value])
        if isinstance(value, PickledArray):
            return value.array
        if isinstance(value, _Foreign):
            self.foreign.add(value.name)
            return str(value)
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise DocumentError(f"expected numbers of at most {_MAX_BITS:,} bits, got one of {value.bit_length():,}")
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray | np.ndarray):
            return value
        raise DocumentError(f"expected plain values, got {type(value).__name__}")

    def _key(self, key: str) -> str:
        self.bytes_left -= len(key)
        return key

    def _spend(self, value: Any, depth: int) -> None:
        array = value.array if isinstance(value, PickledArray) else value
        if isinstance(array, np.ndarray):
            self.values_left -= _ARRAY_COUNTS_AS
            self.bytes_left -= array.nbytes
        elif isinstance(value, str | bytes | bytearray):
            self.bytes_left -= len(value)
        self.values_left -= 1
        if self.values_left < 0 or depth > _MAX_DEPTH:
            raise DocumentError(f"it is nested too deep, or has or repeats more than {_MAX_VALUES:,} values")
        if self.bytes_left < 0:
            raise DocumentError("it repeats its texts or arrays to more than it has bytes itself")
