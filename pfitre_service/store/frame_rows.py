"""Rows of the table `frames`, read as they come: a scan of n frames costs n rows, not n rows for each batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.model import Role, TomogramKey
from pfitre_service.store import layout
from pfitre_service.store.layout import FrameId
from pfitre_service.store.tiled_http import nodes
from pfitre_service.store.tiled_http.connection import TiledHttp

Angles = Mapping[Role, NDArray[np.float64]]


class FrameRows:
    """The angles of one tomogram's stored frames. Rows are only ever added, so what was read stays true."""

    def __init__(self, wire: TiledHttp, key: TomogramKey) -> None:
        self._wire = wire
        self._path = layout.node_path(key, layout.FRAMES)
        self._before: Angles = {role: np.empty(0) for role in layout.ARRAY_OF_ROLE}
        """Of the partitions that take no more rows."""

    def angles(self) -> Angles:
        """(angle,) degrees of the stored frames of each role, in the order of their array; NaN where there is none."""
        while True:
            known = sum(map(len, self._before.values()))
            partition = layout.partition_of(known)
            columns = nodes.read_table(self._wire, self._path, ("role", "index", "angle"), partition=partition)
            angles = {role: _with(before, columns, role) for role, before in self._before.items()}
            if layout.partition_of(known + len(columns["role"])) == partition:
                return angles
            self._before = angles


def _with(before: NDArray[np.float64], columns: Mapping[str, list[Any]], role: Role) -> NDArray[np.float64]:
    rows = zip(columns["role"], columns["index"], columns["angle"], strict=True)
    new = sorted((index, math.nan if angle is None else float(angle)) for name, index, angle in rows if name == role)
    return np.concatenate((before, np.array([angle for _, angle in new], np.float64)))


def read_identities(wire: TiledHttp, key: TomogramKey) -> tuple[list[Role], list[int], list[FrameId]]:
    """Role, row of its array and identity of every stored frame, in the order in which they were stored."""
    table = nodes.read_table(wire, layout.node_path(key, layout.FRAMES), ("role", "index", *layout.ID_COLUMNS))
    ids = zip(*(table[name] for name in layout.ID_COLUMNS), strict=True)
    return table["role"], table["index"], list(ids)
