"""What tests of several folders share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bluesky import RunEngine


@contextmanager
def _run_engine() -> Iterator[RunEngine]:
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop)
    yield engine
    if engine.state != "idle":
        engine.abort()
    loop.call_soon_threadsafe(loop.stop)
    engine._th.join(5)
    loop.close()


@pytest.fixture
def RE() -> Iterator[RunEngine]:
    """A RunEngine whose event loop and thread end with the test."""
    with _run_engine() as engine:
        yield engine


@pytest.fixture(scope="module")
def module_engine() -> Iterator[RunEngine]:
    """The same for scans that several tests look at."""
    with _run_engine() as engine:
        yield engine
