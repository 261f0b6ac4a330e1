"""Scans with ophyd-async's detectors: step by step, and flying as HEX and Diamond do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from numpy.typing import NDArray
from ophyd_async.core import TriggerInfo
from ophyd_async.plan_stubs import ensure_connected

from pfitre_service.errors import InputError
from pfitre_service.testing.streaming import StreamDetector, Writing, camera, data_exchange_camera, encoder
from pfitre_service.twin.beamlines.exposures import Exposures
from pfitre_service.twin.beamlines.inline import BlockSignal, Plan, start_document
from pfitre_service.twin.devices import RotationStage

_COLLECT_S = 0.5
"""Seconds after which a flying scan looks for new documents."""


def stream_step_scan(exposures: Exposures, folder: Path, writing: Writing | None = None) -> Plan:
    """One frame an event; streams dark, flat, primary; the angle is in the events of primary."""
    detector, stage = camera(folder, exposures.frame_shape, writing), RotationStage(name="rotation")
    yield from ensure_connected(detector)

    @bpp.stage_decorator([detector])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start_document(exposures) | {"motors": ["rotation"]})  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        for stream, frames in (("dark", exposures.darks), ("flat", exposures.flats)):
            detector.show(camera=frames)
            for _ in frames:
                yield from bps.trigger_and_read([detector], name=stream)
        detector.show(camera=exposures.projections)
        for angle in exposures.angles:
            yield from bps.mv(stage, float(angle))
            yield from bps.trigger_and_read([detector, stage])

    return (yield from scan())


def stream_block_scan(exposures: Exposures, folder: Path, *, frames_per_event: int) -> Plan:
    """The same with `frames_per_event` frames an event, and as many angles; no flats and darks that do not divide."""
    detector, rotation = camera(folder, exposures.frame_shape), BlockSignal(name="rotation", units="deg")
    yield from ensure_connected(detector)

    @bpp.stage_decorator([detector])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start_document(exposures) | {"motors": ["rotation"]})  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        yield from _blocks(detector, "dark", exposures.darks, len(exposures.darks))
        yield from _blocks(detector, "flat", exposures.flats, len(exposures.flats))
        yield from _blocks(detector, "primary", exposures.projections, frames_per_event, rotation, exposures.angles)

    return (yield from scan())


def _blocks(
    detector: StreamDetector,
    stream: str,
    frames: NDArray[Any],
    each: int,
    rotation: BlockSignal | None = None,
    angles: NDArray[Any] | None = None,
) -> Plan:
    if len(frames) % each:
        raise InputError(f"{len(frames)} frames of stream {stream!r} do not divide into events of {each}")
    detector.show(camera=frames)
    yield from bps.prepare(detector, TriggerInfo(collections_per_event=each), wait=True)
    for first in range(0, len(frames), each):
        if rotation is not None and angles is not None:
            rotation.put(angles[first : first + each])
        yield from bps.trigger_and_read([detector] if rotation is None else [detector, rotation], name=stream)


def hex_references(exposures: Exposures, folder: Path) -> Plan:
    """HEX (NSLS-II 27-ID): a run of its own with streams `dark` and `flat`; returns its uid."""
    detector = camera(folder, exposures.frame_shape)
    yield from ensure_connected(detector)

    @bpp.stage_decorator([detector])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md={"plan_name": "tomo_dark_flat", "sample_name": "chip"})  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        for stream, frames in (("dark", exposures.darks), ("flat", exposures.flats)):
            detector.show(camera=frames)
            yield from _fly([detector], stream, len(frames))

    return (yield from scan())


def hex_fly_scan(exposures: Exposures, folder: Path, *, references: str) -> Plan:
    """HEX: stream `tomo` of two detectors, a camera and a PandA box with the angle, each in a file of its own.

    references: uid of the run that holds the darks and flats.
    """
    detector, panda = camera(folder, exposures.frame_shape), encoder(folder, "Angle")
    yield from ensure_connected(detector, panda)
    start = start_document(exposures) | {"plan_name": "tomo_flyscan", "current_dark_flat_scan_uid": references}

    @bpp.stage_decorator([detector, panda])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start)  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        detector.show(camera=exposures.projections)
        panda.show(Angle=exposures.angles)
        yield from _fly([detector, panda], "tomo", len(exposures.angles))

    return (yield from scan())


def hex_scan(exposures: Exposures, folder: Path) -> Plan:
    """HEX: darks and flats in one run, the projections in the next, which names it."""
    references = yield from hex_references(exposures, folder)
    return (yield from hex_fly_scan(exposures, folder, references=references))


def diamond_fly_scan(exposures: Exposures, folder: Path, writing: Writing | None = None) -> Plan:
    """Diamond's htss: streams flats, darks, primary; the start document alone speaks of angles."""
    detector = camera(folder, exposures.frame_shape, writing)
    yield from ensure_connected(detector)
    start = start_document(exposures) | {
        "plan_name": "htss",
        "min_theta": float(exposures.angles[0]),
        "max_theta": float(exposures.angles[-1]),
        "num_flats": len(exposures.flats),
        "num_darks": len(exposures.darks),
    }

    @bpp.stage_decorator([detector])  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start)  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        takes = {"flats": exposures.flats, "darks": exposures.darks, "primary": exposures.projections}
        for stream, frames in takes.items():
            detector.show(camera=frames)
            yield from _fly([detector], stream, len(frames))

    return (yield from scan())


def dxfile_fly_scan(exposures: Exposures, folder: Path) -> Plan:
    """Data Exchange files: streams white, dark, primary, each with its images in the group of its kind."""
    takes: list[tuple[str, str, Any, Any]] = [
        ("white", "data_white", exposures.flats, np.zeros(len(exposures.flats))),
        ("dark", "data_dark", exposures.darks, np.zeros(len(exposures.darks))),
        ("primary", "data", exposures.projections, exposures.angles),
    ]
    cameras = [data_exchange_camera(folder, exposures.frame_shape, group) for _, group, _, _ in takes]
    yield from ensure_connected(*cameras)

    @bpp.stage_decorator(cameras)  # type: ignore[untyped-decorator]
    @bpp.run_decorator(md=start_document(exposures))  # type: ignore[untyped-decorator]
    def scan() -> Plan:
        for detector, (stream, group, frames, angles) in zip(cameras, takes, strict=True):
            detector.show(**{group: frames, "theta": angles})
            yield from _fly([detector], stream, len(frames))

    return (yield from scan())


def _fly(detectors: list[StreamDetector], stream: str, count: int) -> Plan:
    """One stream of `count` events: prepare, kickoff, and collect until all are complete."""
    for detector in detectors:
        yield from bps.prepare(detector, TriggerInfo(number_of_events=count), wait=True)
    yield from bps.declare_stream(*detectors, name=stream, collect=True)
    yield from bps.kickoff_all(*detectors, wait=True)
    yield from bps.collect_while_completing(detectors, detectors, flush_period=_COLLECT_S, stream_name=stream)
