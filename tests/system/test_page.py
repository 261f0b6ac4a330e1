"""The page in a real browser (headless Chromium), on a real service, while a real scan runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from playwright.sync_api import Page

from pfitre_service.model import TomogramKey
from pfitre_service.twin.chip import layered_chip
from pfitre_service.twin.detector import FluorescenceDetector
from pfitre_service.twin.devices import RotationStage, TomoDetector
from pfitre_service.twin.image_sources import SimulatedScan
from pfitre_service.twin.plans import tomo_scan, wedge_angles
from pfitre_service.twin.project import FineVolume

pytestmark = pytest.mark.slow

SHAPE = (12, 32, 32)


class LiveScan:
    """A scan in a thread of its own (the browser's driver keeps this one), which stops at some projections."""

    def __init__(self, service: Any, scan: Any, stops: Sequence[int] = ()) -> None:
        self._service, self._scan = service, scan
        self._reached = {number: threading.Event() for number in stops}
        self._go_on = {number: threading.Event() for number in stops}
        self._primary = ""
        self.key: TomogramKey | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reach(self, number: int) -> None:
        """Return when projection `number` was published; the scan waits there for `go_on`."""
        assert self._reached[number].wait(60)

    def go_on(self, number: int) -> None:
        self._go_on[number].set()

    def end(self) -> TomogramKey:
        self._thread.join(60)
        assert self.key is not None
        self._service.ended(self.key)
        return self.key

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        engine = RunEngine({}, loop=loop, context_managers=[])
        engine.subscribe(self._service.publisher)
        engine.subscribe(self._follow)
        try:
            engine(self._scan.plan())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            engine._th.join(5)
            loop.close()

    def _follow(self, name: str, document: dict[str, Any]) -> None:
        if name == "start":
            self.key = TomogramKey(document["uid"])
        elif name == "descriptor" and document["name"] == "primary":
            self._primary = document["uid"]
        elif name == "event" and document["descriptor"] == self._primary and document["seq_num"] in self._reached:
            self._reached[document["seq_num"]].set()
            assert self._go_on[document["seq_num"]].wait(60)


class Watched:
    """A page, and what it asked for and complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.add_init_script(SHIFTS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, link: str = "") -> Page:
        self.page.goto(f"{self.url}/view/{link}")
        return self.page

    @property
    def shifted(self) -> float:
        """Cumulative layout shift without a hand's doing (web.dev/cls: up to 0.1 is good)."""
        return float(self.page.evaluate("() => window.shifted"))

    @property
    def outside(self) -> list[str]:
        here = (self.url, self.url.replace("http", "ws"), "data:", "blob:")
        return [url for url in self.requests if not url.startswith(here)]

    def revision(self) -> int:
        """Of the slices that are drawn; 0 before the first."""
        return int(self.page.evaluate("() => document.getElementById('panels').dataset.revision || 0"))

    def pixels(self, panel: int = 0) -> str:
        """A picture's pixels, 64 x 64 of them, as one word that is the same for the same picture."""
        return self.page.evaluate(
            """(panel) => {
            const small = new OffscreenCanvas(64, 64).getContext('2d');
            small.drawImage(document.querySelectorAll('#panels canvas')[panel], 0, 0, 64, 64);
            return Array.from(small.getImageData(0, 0, 64, 64).data, (byte) => byte.toString(16)).join("");
        }""",
            panel,
        )

    def changed(self, before: str, panel: int = 0) -> str:
        """The first picture that is another one."""
        ends_at = time.monotonic() + 30
        while (picture := self.pixels(panel)) == before:
            assert time.monotonic() < ends_at, "the picture stayed as it was"
            self.page.wait_for_timeout(20)
        return picture

    def solid(self) -> str:
        """The 3-D picture's pixels once it is drawn and rests, 64 x 64 of them."""
        self.page.wait_for_function(
            """() => {
            const canvas = document.querySelector('.solid canvas'), drawn = Number(canvas?.dataset.drawn ?? 0);
            const rests = drawn > 0 && drawn === window.drawnBefore;
            window.drawnBefore = drawn;
            return rests;
        }""",
            polling=300,
        )
        return self.page.evaluate(SOLID)

    def changed_solid(self, before: str) -> str:
        """The first 3-D picture that is another one."""
        ends_at = time.monotonic() + 30
        while (picture := self.solid()) == before:
            assert time.monotonic() < ends_at, "the 3-D picture stayed as it was"
        return picture

    def drawn_after(self, revision: int) -> int:
        """The first revision beyond this one that is drawn."""
        self.page.wait_for_function(
            "(before) => Number(document.getElementById('panels').dataset.revision || 0) > before", arg=revision
        )
        return self.revision()


@pytest.fixture
def watch(browser):
    contexts = []

    def start(service, **options):
        context = browser.new_context(viewport={"width": 1500, "height": 900}, **options)
        contexts.append(context)
        return Watched(context.new_page(), service.url)

    yield start
    for context in contexts:
        context.close()


class ChipScan:
    """A chip large enough to look at."""

    def __init__(self) -> None:
        volume = layered_chip((48, 192, 192)) * np.float32(0.05)
        source = SimulatedScan(FineVolume.from_volume(volume, oversampling=2), FluorescenceDetector())
        self._stage = RotationStage(name="rotation")
        self._detector = TomoDetector(name="detector", source=source, stage=self._stage, exposure_s=0.02)

    def plan(self) -> Any:
        return tomo_scan(self._detector, self._stage, wedge_angles(missing=80.0, step=2.5), sample="chip")


@pytest.fixture(scope="module")
def final(service, small_scan):
    """A tomogram that is final; its key."""
    return LiveScan(service, small_scan()).end()


def test_slices_change_while_the_scan_runs_without_a_request_to_anywhere_else(
    start_service, tmp_path, watch, small_scan
):
    with start_service(tmp_path) as service:
        page = watch(service)
        page.open()
        page.page.get_by_text("No tomogram yet").wait_for()
        scan, revisions, pictures = LiveScan(service, small_scan(), stops=(6, 14, 22)), [0], [""]
        for number in (6, 14, 22):
            scan.reach(number)
            revisions.append(page.drawn_after(revisions[-1]))
            pictures.append(page.changed(pictures[-1]))
            scan.go_on(number)
        page.page.wait_for_function("() => document.getElementById('what').textContent.includes('final')")
        scan.end()
        assert page.revision() > revisions[-1]
        page.changed(pictures[-1])
        assert page.shifted < 0.1, page.page.evaluate("() => window.moved")
        assert "are inferred, not measured" in page.page.locator("#sentence").inner_text()
        assert page.outside == []
        assert page.complaints == []


def test_controls_change_the_picture_and_the_link_brings_it_back(service, final, watch):
    page = watch(service)
    browser = page.open(f"#t={final}")
    page.drawn_after(0)
    plain = page.pixels()
    browser.get_by_label("Slice across the rotation axis: position along z").fill("2")
    browser.wait_for_function("() => location.hash.includes('z=2')")
    turned = page.changed(plain)
    browser.get_by_label("Colours").select_option("viridis")
    browser.get_by_label("from").fill("0")
    browser.get_by_label("to", exact=True).fill("0.01")
    browser.get_by_label("to", exact=True).press("Enter")
    browser.wait_for_function("() => location.hash.includes('high=0.01')")
    page.changed(turned)
    browser.keyboard.press("Escape")
    browser.locator("#panels canvas").first.focus()
    browser.keyboard.press("s")
    browser.wait_for_function("() => location.hash.includes('compare=swipe')")
    again = watch(service)
    again.open(browser.evaluate("() => location.hash"))
    again.drawn_after(0)
    assert again.page.get_by_label("Compare").input_value() == "swipe"
    assert again.pixels() == page.pixels()
    browser.get_by_label("Compare").select_option("side")
    browser.wait_for_function("() => document.querySelectorAll('#panels canvas').length === 6")
    assert page.complaints == again.complaints == []


def test_a_hand_moves_the_cross_hair_the_window_and_the_zoom(service, final, watch):
    page = watch(service)
    browser = page.open(f"#t={final}")
    page.drawn_after(0)
    box = browser.locator("#panels canvas").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    browser.mouse.click(middle[0] + 40, middle[1])
    browser.wait_for_function(f"() => !location.hash.includes('x={SHAPE[2] // 2}&')")
    browser.mouse.move(*middle)
    browser.mouse.wheel(0, -400)
    browser.wait_for_function("() => location.hash.includes('zoom=')")
    browser.keyboard.down("Shift")
    browser.mouse.down()
    browser.mouse.move(middle[0] + 60, middle[1] + 20)
    browser.mouse.up()
    browser.keyboard.up("Shift")
    browser.wait_for_function("() => location.hash.includes('low=')")
    assert browser.locator("#auto").get_attribute("aria-pressed") == "false"
    browser.mouse.dblclick(*middle)
    browser.wait_for_function("() => !location.hash.includes('zoom=')")
    browser.keyboard.press("a")
    browser.wait_for_function("() => !location.hash.includes('low=')")


def test_the_volume_turns_and_is_cut_in_three_dimensions_and_the_link_brings_it_back(service, final, watch):
    page = watch(service)
    browser = page.open(f"#t={final}")
    page.drawn_after(0)
    assert not any("vendored" in url for url in page.requests), "three.js is for those who look at 3-D"
    browser.locator("#panels canvas").first.focus()
    browser.keyboard.press("v")
    whole = page.solid()
    browser.get_by_label("Cut along y: whole is kept").click()
    browser.wait_for_function("() => location.hash.includes('cuty=below')")
    cut = page.changed_solid(whole)
    browser.locator(".solid canvas").focus()
    browser.keyboard.press("ArrowRight")
    browser.wait_for_function("() => location.hash.includes('around=')")
    turned = page.changed_solid(cut)
    again = watch(service)
    again.open(browser.evaluate("() => location.hash"))
    assert again.solid() == turned
    browser.get_by_label("How 3-D is drawn").select_option("maximum")
    page.changed_solid(turned)
    browser.get_by_role("button", name="3-D").click()
    assert browser.locator(".solid").count() == 0
    assert page.outside == again.outside == []
    assert page.complaints == again.complaints == []


def test_the_pictures_of_the_documents(start_service, tmp_path, watch, keep_picture):
    with start_service(tmp_path, {"prior": {"name": "tv"}}) as service:
        page = watch(service, color_scheme="dark")
        browser = page.open("#colours=viridis")
        scan = LiveScan(service, ChipScan(), stops=(20,))
        scan.reach(20)
        page.drawn_after(1)
        browser.locator("#panels canvas").first.wait_for()
        keep_picture("page-live.png", browser.screenshot())
        scan.go_on(20)
        key = scan.end()
        lit = watch(service, color_scheme="light")
        browser = lit.open(f"#t={key}&3d=solid&cuty=below&compare=swipe&other=physics&swipe=50")
        browser.wait_for_function("() => document.getElementById('what').textContent.includes('final')")
        lit.solid()
        keep_picture("page-final.png", browser.screenshot())
        assert page.complaints == lit.complaints == []


def test_the_list_finds_tomograms_and_the_themes_are_readable(service, final, watch):
    page = watch(service)
    browser = page.open()
    browser.locator(f'#list [data-id="{final}"]').click()
    browser.wait_for_function(f"() => location.hash.includes('{final}')")
    page.drawn_after(0)
    browser.get_by_label("Find a tomogram").fill("no such sample")
    browser.wait_for_function("() => document.querySelectorAll('#list li').length === 0")
    browser.get_by_label("Find a tomogram").fill(str(final)[:8])
    browser.wait_for_function("() => document.querySelectorAll('#list li').length === 1")
    for theme in ("dark", "light"):
        if browser.evaluate("() => document.documentElement.dataset.theme") != theme:
            browser.get_by_role("button", name="Theme").click()
        low = browser.evaluate(CONTRAST)
        assert low == [], f"{theme}: text under a contrast of 4.5"
    assert browser.evaluate(NAMELESS) == []
    browser.locator(".skip").focus()
    walked = ["skip"]
    while walked[-1] != "against":
        browser.keyboard.press("Tab")
        walked.append(browser.evaluate(FOCUSED))
        assert len(walked) < 60, walked
    order = [
        "skip",
        "list-button",
        "link-button",
        "theme-button",
        "help-button",
        "search",
        "picture",
        "canvas",
        "against",
    ]
    found = [walked.index(name) for name in order]
    assert found == sorted(found), walked


def test_a_restart_of_the_service_is_survived_by_the_page(
    own_settings, arguments_for, start_pfitre, connect, watch, small_scan
):
    arguments = ["serve", "--data-dir", str(own_settings.data_dir), *arguments_for(own_settings)]
    serving = start_pfitre(*arguments)
    with connect(own_settings) as service:
        LiveScan(service, small_scan()).end()
        page = watch(service)
        page.open()
        page.drawn_after(0)
        serving.process.terminate()
        serving.process.wait(30)
        page.page.wait_for_function("() => document.getElementById('connection').dataset.state === 'lost'")
    start_pfitre(*arguments)
    page.page.wait_for_function("() => document.getElementById('connection').dataset.state === 'live'", timeout=60_000)
    with connect(own_settings) as service:
        before = page.page.locator("#list li").count()
        LiveScan(service, small_scan()).end()
        page.page.wait_for_function(f"() => document.querySelectorAll('#list li').length === {before + 1}")


SHIFTS = """window.shifted = 0; window.moved = []; new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) {
    window.shifted += entry.value;
    window.moved.push([entry.value, ...entry.sources.map(({ node }) => node?.id || node?.nodeName)].join(" "));
  }
}).observe({ type: "layout-shift", buffered: true });"""

SOLID = """() => {
  const small = new OffscreenCanvas(64, 64).getContext('2d');
  small.drawImage(document.querySelector('.solid canvas'), 0, 0, 64, 64);
  return Array.from(small.getImageData(0, 0, 64, 64).data, (byte) => byte.toString(16)).join("");
}"""

# Every element with text of its own against the colour behind it (WCAG 2.2, section 1.4.3).
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const bright = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest('.skip')) continue;
    const style = getComputedStyle(node), colour = parse(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [bright(colour), bright(behind(node))].sort((one, other) => other - one);
    if ((a + 0.05) / (b + 0.05) < 4.5) low.push(`${node.tagName} ${node.textContent.trim().slice(0, 30)}`);
  }
  return low;
}"""

FOCUSED = """() => {
  const { id, className, tagName } = document.activeElement;
  return id || className || tagName.toLowerCase();
}"""

NAMELESS = """() => [...document.querySelectorAll('button, input, select, canvas, svg')].filter((node) =>
  node.checkVisibility() && !node.getAttribute('aria-label') && !node.textContent.trim() && !node.labels?.length
).map((node) => node.outerHTML.slice(0, 80))"""
