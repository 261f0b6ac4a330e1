"""Documents as a RunEngine emits them, short enough to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

Document = tuple[str, dict[str, Any]]


class Scan:
    """Documents of one run: a rotation `theta` and a camera `camera`."""

    def __init__(self, uid: str = "run-1", shape: tuple[int, int] = (4, 6)) -> None:
        self.uid = uid
        self.shape = shape

    def start(self, **extra: Any) -> Document:
        return "start", {"uid": self.uid, "time": 1.0, "scan_id": 7, "motors": ["theta"], **extra}

    def descriptor(self, name: str = "primary", **keys: Any) -> Document:
        data_keys = {
            "camera": {"dtype": "array", "shape": list(self.shape), "source": "sim"},
            "theta": {"dtype": "number", "shape": [], "source": "sim"},
            **keys,
        }
        return "descriptor", {
            "uid": f"{self.uid}-{name}",
            "run_start": self.uid,
            "name": name,
            "data_keys": {key: entry for key, entry in data_keys.items() if entry is not None},
        }

    def event(self, seq_num: int, stream: str = "primary", **data: Any) -> Document:
        values = {"camera": np.full(self.shape, float(seq_num)), "theta": float(10 * seq_num), **data}
        return "event", {
            "uid": f"{self.uid}-{stream}-{seq_num}",
            "descriptor": f"{self.uid}-{stream}",
            "seq_num": seq_num,
            "time": 100.0 + seq_num,
            "data": values,
        }

    def stop(self, status: str = "success", **extra: Any) -> Document:
        return "stop", {"uid": f"{self.uid}-stop", "run_start": self.uid, "exit_status": status, **extra}

    def whole(self, points: int) -> Iterator[Document]:
        yield self.start()
        yield self.descriptor()
        yield from (self.event(number) for number in range(1, points + 1))
        yield self.stop(num_events={"primary": points})


@pytest.fixture
def scan() -> Scan:
    return Scan()


@pytest.fixture
def scan_named() -> type[Scan]:
    return Scan
