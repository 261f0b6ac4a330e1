"""What an export is made of, as plain values; the arrays are read by ranges of slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pfitre_service.model import Progress
from pfitre_service.store.lengths import Lengths
from pfitre_service.text_output import printable

_NAME = 200
"""Characters of a name."""
_SLAB_BYTES = 64 << 20
_SLAB_SLICES = 16


class Slices(Protocol):
    """An array (z, y, x) float32, wherever it is."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        ...

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Some slices.

        Parameters
        ----------
        first
            First slice.
        stop
            The one after the last.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x) float32.
        """
        ...

    def cut(self, axis: int, place: int) -> NDArray[np.float32]:
        """One slice along any axis.

        Parameters
        ----------
        axis
            0, 1 or 2: z, y or x.
        place
            Index along it.

        Returns
        -------
        NDArray[np.float32]
            (y, x), (z, x) or (z, y) float32.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SlicesInMemory:
    """An array that is here."""

    values: NDArray[np.float32]
    """(z, y, x)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        depth, height, width = self.values.shape
        return depth, height, width

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Some slices.

        Parameters
        ----------
        first
            First slice.
        stop
            The one after the last.

        Returns
        -------
        NDArray[np.float32]
            (z, y, x) float32, a view.
        """
        return self.values[first:stop]

    def cut(self, axis: int, place: int) -> NDArray[np.float32]:
        """One slice along any axis.

        Parameters
        ----------
        axis
            0, 1 or 2: z, y or x.
        place
            Index along it.

        Returns
        -------
        NDArray[np.float32]
            (y, x), (z, x) or (z, y) float32.
        """
        return np.asarray(self.values.take(place, axis))


@dataclass(frozen=True, slots=True)
class Tomogram:
    """One tomogram at one moment."""

    id: str
    """Its name in the catalogue."""
    arrays: Mapping[str, Slices]
    """Of one shape; the main one first: volume, and what there is of physics and expected_error."""
    metadata: Mapping[str, Any]
    """As the catalogue has it (docs/reference/catalogue.md)."""
    revision: int
    """Of the main array."""
    progress: Sequence[Progress] = ()
    """Rows of `progress`, oldest first."""
    angles: Sequence[float] = ()
    """Degrees of the stored projections, in their order."""
    withdrawn: frozenset[int] = field(default_factory=frozenset)
    """Places in `angles` that count no more."""
    acquisition: Mapping[str, Any] = field(default_factory=dict)
    """What the receiving side says: state, reason, counts."""
    source: str = ""
    """Address of the catalogue, or the file that the projections come from."""
    title: str = ""
    """What to call it where nobody named a sample or counted scans; empty: the beginning of `id`."""

    @property
    def main(self) -> Slices:
        """The main array."""
        return next(iter(self.arrays.values()))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return self.main.shape

    @property
    def lengths(self) -> Lengths:
        """Where its voxels lie."""
        return Lengths.from_metadata(self.metadata)

    @property
    def pixel_size_nm(self) -> float | None:
        """Width of a voxel in every direction; None where neither run nor settings said how large a pixel is."""
        lengths = self.lengths
        return lengths.voxel if lengths.unit == "nm" else None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of it."""
        return self.metadata.get("status") == "final"

    @property
    def name(self) -> str:
        """What people call it: the sample, the scan's number, the title, or the beginning of the uid."""
        scan = self.metadata.get("scan_id")
        sample = self.metadata.get("sample")
        unnamed = f"scan {scan}" if scan is not None else self.title or self.id[:8]
        return printable(str(sample or unnamed), _NAME)

    def held_out(self, place: int) -> bool:
        """Whether the solver did not see a projection while the error was measured.

        Parameters
        ----------
        place
            In `angles`.

        Returns
        -------
        bool
            False where none were held out.
        """
        rule = self.metadata.get("heldout")
        return rule is not None and place % rule["every"] == rule["first"]

    @property
    def counting_angles(self) -> list[tuple[float, bool]]:
        """(degrees, held out) of every projection that counts and has an angle."""
        return [
            (float(angle), self.held_out(place))
            for place, angle in enumerate(self.angles)
            if place not in self.withdrawn and np.isfinite(angle)
        ]


def slab_depth(shape: tuple[int, int, int]) -> int:
    """Slices that are held in memory at a time.

    Parameters
    ----------
    shape
        (z, y, x).

    Returns
    -------
    int
        One at least.
    """
    return max(1, min(shape[0], _SLAB_SLICES, _SLAB_BYTES // (4 * shape[1] * shape[2])))


def slabs(array: Slices) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """An array slab by slab.

    Parameters
    ----------
    array
        To be read.

    Yields
    ------
    tuple[int, NDArray[np.float32]]
        First slice, and (z, y, x) float32.
    """
    depth = slab_depth(array.shape)
    for first in range(0, array.shape[0], depth):
        yield first, array.read(first, min(first + depth, array.shape[0]))


def last_measured(rows: Sequence[Progress], name: str) -> float | None:
    """The newest value of a column of `progress` that is a measurement.

    Parameters
    ----------
    rows
        Oldest first.
    name
        Of the column.

    Returns
    -------
    float | None
        None where there is none.
    """
    return next((float(value) for row in reversed(rows) if (value := getattr(row, name)) > 0), None)
