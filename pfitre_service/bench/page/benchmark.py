"""`pfitre bench page`: the page in a real browser, on a whole service with a live scan.

How soon the first picture is there, how long a published revision takes to become pixels, whether the page's memory
grows over many revisions, and what ten open pages cost the worker. Browser and service share this machine.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pfitre_service.bench.page.bead_run import publish_beads
from pfitre_service.bench.running_service import RunningService, wait_for
from pfitre_service.errors import ServiceError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, CDPSession, Page

_SETTINGS = (
    "documents.measurement=line_integral",
    "prior.name=tv",  # its steps are alike; a network is asked in some and not in others
    "calibration.rotation_axis=middle",
    "calibration.drift=false",
)
_HEARD_S = 60.0
_FRAMES = 20_000  # more than any block lasts
_PATIENCE_S = 600.0
_SETTLED = 20  # revisions until the page has everything that it keeps
# Every drawing, with the revision and the time of its publication, in milliseconds since 1970.
_RECORD = """window.drawings = []; new PerformanceObserver((list) => {
  for (const { name, startTime, detail } of list.getEntries())
    if (name === "pfitre-drawn" && detail.revision)
      drawings.push([detail.revision, 1000 * detail.published, performance.timeOrigin + startTime, startTime]);
}).observe({ entryTypes: ["mark"] });"""


@dataclass(frozen=True, slots=True)
class PageParameters:
    """One benchmark."""

    size: int = 512
    """Width of a slice, of the tomogram whose revisions are followed."""
    revisions: int = 200
    """So many are drawn by the page whose memory is looked at."""
    live_size: int = 256
    """Slices, rows and columns of the volume that many pages watch."""
    pages: int = 10
    """That watch it."""
    seconds: float = 60.0
    """Each of four blocks: without pages, twice with them, without."""

    @property
    def following_shape(self) -> tuple[int, int]:
        """(row, column) of a frame; few slices, so that revisions follow each other quickly."""
        return 4, self.size


def run(parameters: PageParameters, ports: Sequence[Sequence[int]], folder: Path | None = None) -> dict[str, Any]:
    """Runs the benchmark on two sets of free `ports` (`running_service.PORTS` each), in temporary folders below
    `folder`. Raises ServiceError when there is no browser, when the service does not start or hears nothing."""
    load = os.getloadavg()[0]
    with _browser() as browser:
        following = _follow(parameters, browser, ports[0], folder)
        watching = _watch(parameters, browser, ports[1], folder)
    return {**asdict(parameters), "cores": os.cpu_count(), "load_before": load, **following, **watching}


def _follow(parameters: PageParameters, browser: Browser, ports: Sequence[int], folder: Path | None) -> dict[str, Any]:
    with _scan(ports, folder, parameters.following_shape, 4.0, ["worker.publish_interval_s=0.1"]) as (service, uid):
        wait_for(lambda: _revisions(service, uid) >= 2, _HEARD_S, "no picture was published")
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.add_init_script(_RECORD)
        page.goto(f"{service.url}/view/#t={uid}")
        tools = page.context.new_cdp_session(page)
        _until_drawn(page, 1)
        first = float(page.evaluate("drawings[0][3]")) / 1000
        _until_drawn(page, _SETTLED)
        before = _memory(tools)
        _until_drawn(page, parameters.revisions)
        after = _memory(tools)
        drawn = np.array(page.evaluate("drawings"), float)
        page.close()
    _, firsts = np.unique(drawn[:, 0], return_index=True)
    delays = (drawn[firsts, 2] - drawn[firsts, 1])[1:] / 1000
    return {
        "first_picture_seconds": first,
        "revisions_drawn": len(firsts),
        "delay_seconds": {
            "median": float(np.median(delays)),
            "p95": float(np.percentile(delays, 95)),
            "max": float(delays.max()),
        },
        "memory_before": before,
        "memory_after": after,
    }


def _watch(parameters: PageParameters, browser: Browser, ports: Sequence[int], folder: Path | None) -> dict[str, Any]:
    size = parameters.live_size
    blocks: dict[bool, list[float]] = {False: [], True: []}
    with _scan(ports, folder, (size, size), 1.0, []) as (service, uid):
        wait_for(lambda: _revisions(service, uid) >= 3, _PATIENCE_S, "no picture was published")
        for watched in (False, True, True, False):  # steps grow longer with the scan
            pages = [browser.new_page() for _ in range(parameters.pages if watched else 0)]
            for page in pages:
                page.add_init_script(_RECORD)
                page.goto(f"{service.url}/view/#t={uid}")
                _until_drawn(page, 1)
            blocks[watched] += _steps(service, uid, parameters.seconds)
            for page in pages:
                if page.evaluate("new Set(drawings.map(([revision]) => revision)).size") < 2:
                    raise ServiceError("a page did not follow the tomogram; see the log above")
                page.close()
    without, with_pages = float(np.median(blocks[False])), float(np.median(blocks[True]))
    return {
        "steps": {"without_pages": len(blocks[False]), "with_pages": len(blocks[True])},
        "step_seconds": {"without_pages": without, "with_pages": with_pages},
        "slowed_by": with_pages / without - 1,
    }


def _steps(service: RunningService, uid: str, seconds: float) -> list[float]:
    """Seconds of compute of each step that was made within about so many seconds from now, two at least."""
    first, begin = _revisions(service, uid), time.monotonic()
    wait_for(
        lambda: time.monotonic() - begin >= seconds and _revisions(service, uid) >= first + 3,
        _PATIENCE_S + seconds,
        "the worker made no steps",
    )
    rows = service.progress(uid, ["revision", "seconds"])
    spent = np.array(rows["seconds"])[np.argsort(rows["revision"])]
    return np.diff(spent[first:]).tolist()


def _revisions(service: RunningService, uid: str) -> int:
    return len(service.progress(uid, ["revision"]).get("revision", ()))


def _until_drawn(page: Page, revisions: int) -> None:
    page.wait_for_function(
        "(count) => new Set(drawings.map(([revision]) => revision)).size >= count",
        arg=revisions,
        timeout=1000 * _PATIENCE_S,
    )


def _memory(tools: CDPSession) -> dict[str, float]:
    """MB of the page after a collection of garbage: objects, and the arrays and canvases behind them."""
    tools.send("HeapProfiler.collectGarbage")
    usage = tools.send("Runtime.getHeapUsage")
    return {
        "objects": float(usage["usedSize"]) / 1e6,
        "arrays": float(usage.get("backingStorageSize", 0)) / 1e6,
        "drawing": float(usage.get("embedderHeapUsedSize", 0)) / 1e6,
    }


@contextmanager
def _browser() -> Iterator[Browser]:
    """Headless Chromium of the system. Raises ServiceError where it, or its driver, is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ServiceError("this benchmark needs a browser's driver: pip install 'pfitre-service[bench]'") from error
    chromium = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
    if chromium is None:
        raise ServiceError("this benchmark needs Chromium on the PATH, for example: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def _scan(
    ports: Sequence[int], folder: Path | None, shape: tuple[int, int], rate: float, settings: Sequence[str]
) -> Iterator[tuple[RunningService, str]]:
    """A running service and the uid of a scan that goes on until the block ends."""
    spawner = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="pfitre-bench-", dir=folder) as name:
        service = RunningService(Path(name) / "data", ports)
        with service.running([*_SETTINGS, *settings]):
            link, far = spawner.Pipe()
            arguments = (service.publish_address, shape, _FRAMES, rate, far)
            process = spawner.Process(target=publish_beads, args=arguments, name="bench-beads", daemon=True)
            process.start()
            try:
                wait_for(lambda: service.ingest().get("documents", {}).get("stop"), _HEARD_S, "ingest heard nothing")
                link.send("heard")
                yield service, link.recv()
            finally:
                process.kill()
                process.join()
                link.close()
                far.close()


def render(result: dict[str, Any]) -> str:
    """The result of `run` in a few lines."""
    delay, before, after = result["delay_seconds"], result["memory_before"], result["memory_after"]
    steps, seconds = result["steps"], result["step_seconds"]
    grown = sum(after.values()) - sum(before.values())
    return "\n".join(
        [
            f"browser and service together on {result['cores']} cores, load {result['load_before']:.1f} before",
            f"first picture {result['first_picture_seconds']:.2f} s after the page was asked for",
            f"from a published revision to pixels, slices of {result['size']} x {result['size']}: median "
            f"{delay['median']:.2f} s, 95 % {delay['p95']:.2f} s, longest {delay['max']:.2f} s",
            f"memory after {result['revisions_drawn']} revisions: {sum(after.values()):.0f} MB, {grown:+.1f} MB since "
            f"revision {_SETTLED}",
            f"{result['pages']} pages on {result['live_size']}^3: a step takes {seconds['with_pages']:.2f} s, without "
            f"them {seconds['without_pages']:.2f} s ({100 * result['slowed_by']:+.1f} %; {steps['with_pages']} and "
            f"{steps['without_pages']} steps)",
        ]
    )
