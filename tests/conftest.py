"""What tests of several folders share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from bluesky import RunEngine


@pytest.fixture
def RE() -> Iterator[RunEngine]:
    """A RunEngine whose event loop and thread end with the test."""
    loop = asyncio.new_event_loop()
    engine = RunEngine({}, loop=loop)
    yield engine
    if engine.state != "idle":
        engine.abort()
    loop.call_soon_threadsafe(loop.stop)
    engine._th.join(5)
    loop.close()
