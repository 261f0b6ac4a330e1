"""What tests of several folders share."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bluesky import RunEngine

from pfitre_service.config import load_settings
from pfitre_service.ingest import DocumentRules
from pfitre_service.testing.forms import FORMS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-pictures", action="store_true", help="write the pictures of docs/images anew")


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


PROFILES = Path(__file__).parents[1] / "profiles"


@pytest.fixture(scope="session")
def rules_of_profile() -> Callable[..., DocumentRules]:
    """`rules_of_profile(name, folder, **changes)`: of profiles/NAME, for files that lie in `folder`."""

    def rules(name: str, folder: Path, **changes: Any) -> DocumentRules:
        return dataclasses.replace(load_settings(PROFILES / name).documents, roots=(str(folder),), **changes)

    return rules


@pytest.fixture(scope="session")
def rules_of_form(rules_of_profile: Callable[..., DocumentRules]) -> Callable[[str, Path], DocumentRules]:
    """`rules_of_form(name, folder)`: what reads the documents of FORMS[name]; those of its profile, if it has one."""

    def rules(name: str, folder: Path) -> DocumentRules:
        form = FORMS[name]
        if form.profile is not None:
            return rules_of_profile(form.profile, folder)
        return DocumentRules(roots=(str(folder),), **form.documents)

    return rules
