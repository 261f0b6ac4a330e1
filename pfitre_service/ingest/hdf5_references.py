"""What HDF5 opens by itself: external links, virtual datasets, raw storage in other files.

HDF5 follows them anywhere without a word, and fills what is not there with zeros (or another fill value). Here they are
looked at first: each file is resolved as HDF5 resolves it, must lie where `place` allows, and must hold what is read.

Not covered: a file that is exchanged between the look and the read. Who can do that can write in an allowed folder.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pfitre_service.errors import InputError
from pfitre_service.ingest.sequence import in_words

Place = Callable[[Path], Path]
"""The real path of a file that may be read. Raises InputError for one that may not."""

_DEEPEST = 8
"""Links behind links, and virtual datasets of virtual datasets."""
_MOST_BLOCKS = 100_000
_UNLIMITED = int(h5py.h5s.UNLIMITED)


class NotWholeError(InputError):
    """Something that a dataset is made of is not there, or not yet."""


def anywhere(path: Path) -> Path:
    """The `Place` of a person who names a file: whatever this account may read."""
    return path.resolve()


@contextmanager
def opened(file: h5py.File, name: str, place: Place) -> Iterator[h5py.Dataset]:
    """The dataset at `name`, to which links were followed one by one, each to where `place` allows.

    What it is made of is looked at by `whole`. Raises NotWholeError where something is missing, InputError where
    something may not be read.
    """
    with ExitStack() as stack:
        found = _walk(file, name, place, stack, 0)
        if not isinstance(found, h5py.Dataset):
            raise NotWholeError(f"{file.filename} has no dataset {name!r:.200}")
        yield found


def whole(dataset: h5py.Dataset, place: Place, first: int = 0, stop: int | None = None) -> h5py.Dataset:
    """`dataset`, of which frames `first` to `stop` on the first axis may be read and are there: every file that it is
    made of lies where `place` allows, those that hold these frames exist and are long enough. Raises as `opened`."""
    length = dataset.shape[0] if dataset.ndim else 1
    _check_parts(dataset, place, (first, length if stop is None else min(stop, length)), 0)
    return dataset


def child(group: h5py.Group, name: str) -> Any:
    """What lies at `name`; relative names of a dataset's raw storage are looked for beside its file."""
    found = group[name]
    if not isinstance(found, h5py.Dataset) or not found.external:
        return found
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_efile_prefix(os.fsencode(Path(found.file.filename).parent))
    holder, path = found.file.id, os.fsencode(found.name)
    del found  # HDF5 opens no dataset under two prefixes at a time
    return h5py.Dataset(h5py.h5d.open(holder, path, access))


def explain_dangling(group: h5py.Group, name: str) -> None:
    """Raises NotWholeError where `name`, at which nothing was found, is or passes a link that leads nowhere."""
    part, _, rest = name.strip("/").partition("/")
    link = group.get(part, getlink=True)
    if isinstance(link, h5py.SoftLink | h5py.ExternalLink):
        with ExitStack() as stack:
            _walk(group, name, anywhere, stack, 0)  # says which file is missing
        target = f"{link.path} in {link.filename}" if isinstance(link, h5py.ExternalLink) else link.path
        raise NotWholeError(f"{group.file.filename}: {group.name.rstrip('/')}/{part} is a link to {target}, not there")
    inner = group.get(part) if rest else None
    if isinstance(inner, h5py.Group):
        explain_dangling(inner, rest)


def unwritten(dataset: h5py.Dataset, first: int, stop: int) -> list[int]:
    """Which of the frames `first` to `stop`, on the first axis, hold nothing but the fill value that HDF5 invents."""
    if dataset.is_virtual:
        covered = _covered(dataset)
        size = math.prod(dataset.shape[1:])
        return [] if covered is None else [frame for frame in range(first, stop) if covered[frame] < size]
    if dataset.chunks is None:
        empty = dataset.external is None and dataset.size and not dataset.id.get_storage_size()
        return list(range(first, stop)) if empty and dataset.nbytes > 0 and not _is_compact(dataset) else []
    grid = [-(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    if dataset.id.get_num_chunks() >= math.prod(grid):
        return []
    length = dataset.chunks[0]
    absent = {row for row in range(first // length, -(-stop // length)) if not _row_is_there(dataset, row, grid)}
    return [frame for frame in range(first, stop) if frame // length in absent]


# -- links -----------------------------------------------------------------------------------------------------------


def _walk(group: h5py.Group, name: str, place: Place, stack: ExitStack, depth: int) -> Any:
    """What lies at `name`, without HDF5 following any link by itself; None where there is nothing."""
    if depth > _DEEPEST:
        raise InputError(f"{group.file.filename}: more than {_DEEPEST} links behind each other lead to {name!r:.200}")
    at: Any = group.file["/"] if name.startswith("/") else group
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for index, part in enumerate(parts):
        if not isinstance(at, h5py.Group) or not at.id.links.exists(os.fsencode(part)):
            return None
        link = at.get(part, getlink=True)
        rest = "/".join(parts[index + 1 :])
        if isinstance(link, h5py.ExternalLink):
            other = _linked_file(at, part, link, place, stack)
            return _walk(other["/"], "/".join(filter(None, (link.path.strip("/"), rest))), place, stack, depth + 1)
        if isinstance(link, h5py.SoftLink):
            return _walk(at, "/".join(filter(None, (link.path, rest))), place, stack, depth + 1)
        at = child(at, part)
    return at


def _linked_file(group: h5py.Group, name: str, link: h5py.ExternalLink, place: Place, stack: ExitStack) -> h5py.File:
    path = _first_there(link.filename, group.file.filename, "HDF5_EXT_PREFIX")
    what = f"the link {group.name.rstrip('/')}/{name} of {group.file.filename}"
    real = _placed(path, what, place)
    if not real.is_file():
        raise NotWholeError(f"{what} leads to {link.path} in {link.filename}, and there is no such file ({real})")
    try:
        return stack.enter_context(h5py.File(real, "r"))
    except OSError as error:
        raise NotWholeError(f"{what} leads to {real}, which cannot be read: {str(error)[:120]}") from error


def _first_there(name: str, beside: str, variable: str) -> Path:
    """Where HDF5 finds a file that another one names: below the variable's folder, beside the other file, in the
    working directory, by its last part beside the other file; the first of these if it is in none."""
    prefixes = [Path(prefix) for prefix in os.environ.get(variable, "").split(":") if prefix]
    folder = Path(beside).parent
    named = Path(name)
    if named.is_absolute():
        tried = [named, *(prefix / named.name for prefix in prefixes), folder / named.name]
    else:
        tried = [*(prefix / named for prefix in prefixes), folder / named, named]
    return next((path for path in tried if path.exists()), tried[0])


def _placed(path: Path, what: str, place: Place) -> Path:
    try:
        return place(path)
    except InputError as error:
        raise InputError(f"{what} leads outside: {error}") from error


# -- parts -----------------------------------------------------------------------------------------------------------

_Frames = tuple[int, int]


def _check_parts(dataset: h5py.Dataset, place: Place, frames: _Frames, depth: int) -> None:
    if depth > _DEEPEST:
        raise InputError(f"{_where(dataset)} is made of virtual datasets more than {_DEEPEST} deep")
    for name, offset, size in dataset.external or ():
        _check_raw(dataset, Path(os.fsdecode(name)), int(offset), int(size), place)
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        _check_source(dataset, source, place, frames, depth)
    lacking = unwritten(dataset, *frames) if dataset.ndim else []
    if lacking:
        raise NotWholeError(f"{_where(dataset)}: frames {in_words((n, n) for n in lacking)} were never written")


def _check_raw(dataset: h5py.Dataset, name: Path, offset: int, size: int, place: Place) -> None:
    what = f"the raw storage of {_where(dataset)}"
    real = _placed(name if name.is_absolute() else _raw_folder(dataset) / name, what, place)
    if not real.is_file():
        raise NotWholeError(f"{what} is the file {name}, which is not there ({real})")
    end = offset + (dataset.nbytes if size == _UNLIMITED else size)
    if real.stat().st_size < end:
        raise NotWholeError(f"{what}: {real} has {real.stat().st_size} bytes, fewer than the {end} that are mapped")


def _raw_folder(dataset: h5py.Dataset) -> Path:
    """Where relative names of raw storage are looked for: HDF5's variable, else what `child` sets."""
    folder = str(Path(dataset.file.filename).parent)
    return Path(os.environ.get("HDF5_EXTFILE_PREFIX", folder).replace("${ORIGIN}", folder))


def _check_source(dataset: h5py.Dataset, source: Any, place: Place, frames: _Frames, depth: int) -> None:
    wanted = _source_frames(source, frames)
    for file_name, name in _source_names(dataset, source):
        if file_name == ".":
            _check_inner(dataset, dataset.file, name, wanted, place, depth)
            continue
        path = _first_there(file_name, dataset.file.filename, "HDF5_VDS_PREFIX")
        what = f"the virtual dataset {_where(dataset)}"
        real = _placed(path, what, place)
        if wanted is None:
            continue  # none of the frames that are asked for
        if not real.is_file():
            raise NotWholeError(f"{what} takes frames from {file_name}, and there is no such file ({real})")
        try:
            with h5py.File(real, "r") as file:
                _check_inner(dataset, file, name, wanted, place, depth)
        except OSError as error:
            raise NotWholeError(f"{what} takes frames from {real}, which cannot be read: {str(error)[:120]}") from error


def _source_frames(source: Any, frames: _Frames) -> _Frames | None:
    """Which frames of its source a mapping takes for `frames` of the virtual dataset; None for none of them."""
    if _is_unlimited(source.vspace) or _is_unlimited(source.src_space):
        return 0, 0  # as many as there are: the length of the virtual dataset follows its sources
    low, high = _first_axis(source.vspace) or (0, frames[1] - 1)
    begin, end = _first_axis(source.src_space) or (0, high - low)
    if frames[1] <= low or frames[0] > high:
        return None
    if end - begin != high - low:
        return begin, end + 1
    return begin + max(0, frames[0] - low), begin + min(frames[1] - 1, high) - low + 1


def _source_names(dataset: h5py.Dataset, source: Any) -> Iterator[tuple[str, str]]:
    """File and dataset; several where the names count blocks (`%b`)."""
    if "%b" not in source.file_name + source.dset_name:
        yield source.file_name, source.dset_name
        return
    for block in range(min(dataset.shape[0], _MOST_BLOCKS)):
        names = tuple(name.replace("%b", str(block)) for name in (source.file_name, source.dset_name))
        if block and not _first_there(names[0], dataset.file.filename, "HDF5_VDS_PREFIX").exists():
            return
        yield names[0], names[1]


def _check_inner(
    dataset: h5py.Dataset, file: h5py.File, name: str, wanted: _Frames | None, place: Place, depth: int
) -> None:
    with ExitStack() as stack:
        inner = _walk(file, name, place, stack, depth)
        if not isinstance(inner, h5py.Dataset):
            raise NotWholeError(f"{_where(dataset)} takes frames from {file.filename}, which has no {name!r:.200}")
        if wanted is None:
            return
        if inner.ndim and wanted[1] > inner.shape[0]:
            raise NotWholeError(
                f"{_where(dataset)} takes {wanted[1]} frames from {file.filename}, which holds {inner.shape[0]}"
            )
        _check_parts(inner, place, wanted, depth + 1)


def _is_unlimited(space: Any) -> bool:
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return _UNLIMITED in (*count, *block)


def _first_axis(space: Any) -> _Frames | None:
    """First and last index of a selection; None where everything is selected."""
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return None
    low, high = space.get_select_bounds()
    return int(low[0]), int(high[0])


def _covered(dataset: h5py.Dataset) -> Counter[int] | None:
    """How many values of each frame the mappings of a virtual dataset fill; None where they cannot be counted."""
    filled: Counter[int] = Counter()
    for source in dataset.virtual_sources():
        space = source.vspace
        if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
            return None
        if _is_unlimited(space):
            return None
        start, stride, count, block = space.get_regular_hyperslab()
        each = math.prod(many * wide for many, wide in zip(count[1:], block[1:], strict=True))
        steps = start[0] + stride[0] * np.arange(count[0])[:, None] + np.arange(block[0])
        filled.update(dict.fromkeys(steps.ravel().tolist(), each))
    return filled


def _row_is_there(dataset: h5py.Dataset, row: int, grid: list[int]) -> bool:
    """Whether every chunk of one row of chunks along the first axis was written."""
    chunks = dataset.chunks or ()
    for place in np.ndindex(*grid[1:]):
        offset = tuple(int(index) * length for index, length in zip((row, *place), chunks, strict=True))
        if dataset.id.get_chunk_info_by_coord(offset).byte_offset is None:
            return False
    return True


def _is_compact(dataset: h5py.Dataset) -> bool:
    return bool(dataset.id.get_create_plist().get_layout() == h5py.h5d.COMPACT)


def _where(dataset: h5py.Dataset) -> str:
    return f"{dataset.name} of {dataset.file.filename}"
