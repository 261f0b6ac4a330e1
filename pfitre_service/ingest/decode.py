"""Documents as bluesky's own 0MQ publisher sends them, read without trusting the sender.

A message is ``prefix + b" " + name + b" " + pickle``. An ordinary unpickler runs whatever code the sender names. Here
nothing that a pickle names is ever looked up: the names that dictionaries and numpy arrays need lead to readers of
our own, and an instance of any other class (an enumeration, a path) becomes a text that says what it was. The
unpickler is Python's own in Python, not the faster one in C: that one lets a short message claim gigabytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from pfitre_service.errors import DocumentError
from pfitre_service.ingest.documents import DOCUMENT_NAMES
from pfitre_service.ingest.pickled_arrays import PickledArray, PickledType, from_buffer, scalar

_SPARE_VALUES = 50_000
_MAX_DEPTH = 100


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
    plain = _Plain(values_left=len(message) - start + _SPARE_VALUES)
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


class _DocumentUnpickler(pickle._Unpickler):
    """Python's unpickler without the operations that look up, call or change anything but our readers."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, message: bytes, start: int) -> None:
        stream = io.BytesIO(message)  # shares the message's memory; what is read out of it is the one copy
        stream.seek(start)
        super().__init__(stream)
        self._size = len(message) - start

    def find_class(self, module: str, name: str) -> Any:
        """The reader for what the pickle names; nothing is imported."""
        return _READERS.get((module, name)) or _Foreign(f"{module}.{name}"[:120])

    # Keys are checked before they are hashed: a tuple of tuples of tuples takes for ever to hash.

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
            target[_hashable(key)] = value

    def _additems(self) -> None:
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise DocumentError(f"expected a set before its items, got {type(target).__name__}")
        target.update(_hashable(item) for item in items)

    def _frozenset(self) -> None:
        self.append(frozenset(_hashable(item) for item in self.pop_mark()))

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        reader = self.stack[-1]
        known = isinstance(reader, _Foreign) or any(reader is known for known in _READERS.values())
        if not isinstance(arguments, tuple) or not known:
            raise DocumentError("expected a class and its arguments")
        if reader is dict and arguments:
            raise DocumentError("expected an empty OrderedDict")
        self.stack[-1] = reader(*arguments)

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, PickledArray | PickledType):
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
    dispatch[pickle.FROZENSET[0]] = _frozenset
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


def _hashable(key: Any) -> Any:
    if key is None or isinstance(key, str | int | float | bytes | _Foreign):
        return key
    raise DocumentError(f"expected text or numbers as keys and in sets, got {type(key).__name__}")


@dataclass(slots=True)
class _Plain:
    """Puts arrays in the place of what stood for them, and refuses documents that unfold without end.

    A pickle may refer to the same value many times, and so be exponentially larger than its message; an honest
    document has no more values than bytes.
    """

    values_left: int
    foreign: set[str] = field(default_factory=set)

    def convert(self, value: Any, depth: int) -> Any:
        self.values_left -= 1
        if self.values_left < 0 or depth > _MAX_DEPTH:
            raise DocumentError("it is nested too deep, or repeats itself to more values than it has bytes")
        if isinstance(value, dict):
            return {self._key(key): self.convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, set | frozenset):
            return [self.convert(item, depth + 1) for item in value]
        if isinstance(value, list | tuple):
            return type(value)([self.convert(item, depth + 1) for item in value])
        if isinstance(value, PickledArray):
            return value.array
        if isinstance(value, _Foreign):
            self.foreign.add(value.name)
            return str(value)
        if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray | np.ndarray):
            return value
        raise DocumentError(f"expected plain values, got {type(value).__name__}")

    def _key(self, key: Any) -> str:
        if isinstance(key, _Foreign):
            self.foreign.add(key.name)
        if not isinstance(key, str | int | float | _Foreign):
            raise DocumentError(f"expected text as keys, got {type(key).__name__}")
        return str(key)
