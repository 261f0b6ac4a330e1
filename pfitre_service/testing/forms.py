"""Every form in which a scan of transmission images reaches this service, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pfitre_service.testing.fxi import fxi_fly_scan
from pfitre_service.twin.beamlines.exposures import Exposures
from pfitre_service.twin.beamlines.filestore import ad_hdf5, ad_tiff
from pfitre_service.twin.beamlines.frame_file import Layout
from pfitre_service.twin.beamlines.inline import Plan, inline_block, inline_events, inline_pages


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of documents and files."""

    plan: Callable[[Exposures, Path], Plan]
    """plan(exposures, folder): one tomogram, in one run or several, with its files in `folder`."""
    documents: Mapping[str, Any] = field(default_factory=dict)
    """The `[documents]` table of a profile that describes it, apart from `roots`."""
    profile: str | None = None
    """Folder below profiles/ whose table is the one; None where `documents` is."""


def _step(**writing: Any) -> Callable[[Exposures, Path], Plan]:
    def plan(exposures: Exposures, folder: Path) -> Plan:
        from pfitre_service.testing.stream_scans import stream_step_scan
        from pfitre_service.testing.streaming import Writing

        return stream_step_scan(exposures, folder, Writing(**writing))

    return plan


def _block(exposures: Exposures, folder: Path) -> Plan:
    from pfitre_service.testing.stream_scans import stream_block_scan

    return stream_block_scan(exposures, folder, frames_per_event=8)


def _hex(exposures: Exposures, folder: Path) -> Plan:
    from pfitre_service.testing.stream_scans import hex_scan

    return hex_scan(exposures, folder)


def _diamond(exposures: Exposures, folder: Path) -> Plan:
    from pfitre_service.testing.stream_scans import diamond_fly_scan

    return diamond_fly_scan(exposures, folder)


def _dxfile(exposures: Exposures, folder: Path) -> Plan:
    from pfitre_service.testing.stream_scans import dxfile_fly_scan

    return dxfile_fly_scan(exposures, folder)


_STEP = {"rotation": "rotation"}

FORMS: dict[str, Form] = {
    "inline": Form(lambda exposures, _: inline_events(exposures), _STEP),
    "inline-pages": Form(lambda exposures, _: inline_pages(exposures), _STEP),
    "inline-block": Form(lambda exposures, _: inline_block(exposures), _STEP | {"image": "detector_image"}),
    "ad-hdf5": Form(ad_hdf5, _STEP),
    "ad-hdf5-blosc": Form(lambda exposures, folder: ad_hdf5(exposures, folder, compression="blosc"), _STEP),
    "ad-tiff": Form(ad_tiff, _STEP),
    "fxi": Form(fxi_fly_scan, profile="fxi"),
    "stream-step": Form(_step(), _STEP),
    "stream-no-swmr": Form(_step(layout=Layout(swmr=False)), _STEP),
    "stream-parts": Form(_step(frames_per_file=16), _STEP),
    "stream-bitshuffle": Form(_step(layout=Layout(compression="bitshuffle")), _STEP),
    "stream-axis-before": Form(_step(layout=Layout(axes_before=1)), _STEP),
    "stream-axis-after": Form(_step(layout=Layout(axes_after=1)), _STEP),
    "stream-tiff": Form(_step(tiff=True), _STEP),
    "stream-block": Form(_block, _STEP | {"image": "camera"}),
    "hex": Form(_hex, profile="hex"),
    "diamond": Form(_diamond, profile="diamond"),
    "dxfile": Form(_dxfile, profile="dxfile"),
}
"""The stream- forms, hex, diamond and dxfile need ophyd-async."""
