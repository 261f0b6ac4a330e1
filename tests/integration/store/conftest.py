"""Disks that run full."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pfitre_service.config import Settings
from pfitre_service.service.worker.attempts import Attempts
from pfitre_service.service.worker.publisher import Publisher
from pfitre_service.service.worker.worker import Worker
from pfitre_service.store.catalog import Catalog


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB of its own, where this machine lets us make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def server_on_small_disk(small_disk: Path, server_in: Callable[[Path], Any]) -> Any:
    return server_in(small_disk / "tiled")


@pytest.fixture(scope="session")
def make_worker(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Worker]:
    """`make_worker(catalog, publisher, settings)`: workers that come one after the other at one place."""

    note = tmp_path_factory.mktemp("worker") / "worker.json"

    def make(catalog: Catalog, publisher: Publisher, settings: Settings) -> Worker:
        return Worker(catalog, publisher, settings, Attempts(note))

    return make
