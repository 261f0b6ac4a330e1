"""What came of a demo: numbers for `--json`, sentences for people, and pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pfitre_service.catalog_access import catalog_url
from pfitre_service.config import Settings
from pfitre_service.demo.shown_scans import ShownScan
from pfitre_service.demo.watch import Watch
from pfitre_service.engine.engine import Engine
from pfitre_service.engine.parameters import EngineParameters
from pfitre_service.errors import ServiceError
from pfitre_service.model import Progress
from pfitre_service.preprocess import region_geometry
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.recon.quality.similarity import psnr
from pfitre_service.service.worker.session import stored_references
from pfitre_service.store.catalog import Catalog
from pfitre_service.store.reader import TomogramReader

Volume = NDArray[Any]


def summarize(
    scan: ShownScan, settings: Settings, watch: Watch, final: Mapping[str, Progress], catalog: Catalog, output: Path
) -> dict[str, Any]:
    """The object of `--json`: of the scan, and of its tomogram; several stand in a list under `tomograms`.

    Draws a picture of each into `output`.
    """
    tomograms = []
    for name, key in watch.keys.items():
        reader, truth = catalog.reader(key), scan.truths[name]
        about = _tomogram(reader, final[name], truth, watch)
        about["picture"] = _picture(
            scan.description, settings, catalog, reader, truth, output / f"{scan.name}{name and f'-{name}'}.png"
        )
        tomograms.append(({"name": name} if name else {}) | about)
    about_scan = {
        "scan": scan.name,
        "frames_sent": watch.sent,
        "tiled_url": catalog_url(settings),
    }
    if len(tomograms) == 1:
        return about_scan | tomograms[0]
    return about_scan | {"status": "final", "tomograms": tomograms}


def sentences(summary: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    return [line for tomogram in summary.get("tomograms", [summary]) for line in _about(tomogram)]


def _about(tomogram: Mapping[str, Any]) -> list[str]:
    name = f"{tomogram['name']} " if "name" in tomogram else ""
    first = tomogram["seconds_to_first_volume"]
    early = "" if first is None else f"first volume {first:.1f} s after the second projection, "
    lines = [
        f"{name}{tomogram['status']}: {tomogram['reason']}",
        f"{early}final volume {tomogram['seconds_after_last_frame']:.1f} s after the last one",
        f"held-out error {tomogram['heldout_error']:.4f} (physics alone {tomogram['heldout_error_physics']:.4f}): "
        "the part of the held-out projections that the volume does not explain",
        str(tomogram["sentence"]),
    ]
    if "psnr_result" in tomogram:
        lines.append(
            f"against the truth, which only a simulation knows: {tomogram['psnr_result']:.1f} dB "
            f"(physics alone {tomogram['psnr_physics']:.1f} dB)"
        )
    return [*lines, f"picture: {tomogram['picture']}"]


def _tomogram(reader: TomogramReader, final: Progress, truth: Volume | None, watch: Watch) -> dict[str, Any]:
    metadata, volume = reader.metadata(), _present(reader.volume())
    summary: dict[str, Any] = {
        "tomogram": str(reader.key),
        "status": metadata["status"],
        "reason": metadata["reason"],
        "frames_stored": reader.counts()["projection"],
        "frames_used": metadata["frames_used"],
        "volume_shape": list(volume.shape),
        "revisions_during_scan": watch.revisions_seen(reader.key),
        "seconds_to_first_volume": _between(watch.second_projection_at, watch.first_volume_at.get(reader.key)),
        "iterations": final.iterations,
        "seconds_after_last_frame": metadata["status_time"] - _wall_clock(watch.last_projection_at),
        "compute_seconds": final.seconds,
        "residual": final.residual,
        "heldout_error": final.heldout_error,
        "heldout_error_physics": final.heldout_error_physics,
        "prior": metadata["prior"],
        "sentence": metadata["quality"]["sentence"],
        "warnings": metadata["warnings"],
    }
    if truth is None:
        return summary
    physics = _present(reader.physics())
    return summary | {
        "psnr_result": float(psnr(volume, truth, region="volume")),
        "psnr_physics": float(psnr(physics, truth, region="volume")),
    }


def _picture(
    title: str, settings: Settings, catalog: Catalog, reader: TomogramReader, truth: Volume | None, path: Path
) -> Path:
    """Preview, physics and result side by side; the preview is made of all stored angles that count."""
    acquisition = reader.acquisition()
    geometry = acquisition.geometry
    if geometry is None:
        raise ServiceError("the catalogue holds no projection")
    parameters = EngineParameters(measurement=acquisition.measurement, preprocess=settings.preprocess)
    calibration = Calibration.from_document(reader.metadata().get("calibration") or {})
    engine = Engine(region_geometry(geometry, settings.preprocess), parameters, calibration)
    engine.set_references(stored_references(reader, settings.preprocess)[0])
    engine.projections.exclude(catalog.summary(reader.key).withdrawn)
    for batch in reader.batches("projection"):
        engine.add(batch)
    volumes = {
        "instant preview": engine.preview(),
        "physics alone": _present(reader.physics()),
        "result": _present(reader.volume()),
    }
    if truth is not None:
        volumes["truth"] = truth
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path, volumes, title=title)
    return path


def _present(volume: Volume | None) -> Volume:
    if volume is None:
        raise ServiceError("the catalogue holds no volume")
    return volume


def _between(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first


def _wall_clock(monotonic: float | None) -> float:
    """Seconds since 1970 of a reading of the monotonic clock."""
    return time.time() - (time.monotonic() - (monotonic or 0.0))


def draw(path: Path, volumes: Mapping[str, Volume], *, title: str) -> None:
    """Writes a PNG: a column for each volume (z, y, x), an axial and an upright slice below each other.

    One grey scale for all, from the last volume but one in `volumes` (the result), so that they can be compared.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    result = volumes["result"]
    low, high = (float(value) for value in np.percentile(result, (1, 99.8)))
    z, y = _busiest(result)
    figure, axes = pyplot.subplots(
        2, len(volumes), figsize=(3.4 * len(volumes), 5.6), layout="constrained", height_ratios=(1.5, 1), squeeze=False
    )
    figure.suptitle(title, fontsize=9, wrap=True, parse_math=False)  # a name may have dollars in it
    for column, (name, volume) in enumerate(volumes.items()):
        for row, (picture, words) in enumerate(((volume[z], f"slice z = {z}"), (volume[:, y], f"slice y = {y}"))):
            axis = axes[row, column]
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(name, fontsize=11, parse_math=False)
            if column == 0:
                axis.set_ylabel(words, fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _busiest(volume: Volume) -> tuple[int, int]:
    """The slices along z and y with most contrast, away from the faces."""
    inner = volume[:, len(volume[0]) // 4 : -len(volume[0]) // 4]
    z = int(np.argmax(volume.std(axis=(1, 2))))
    y = int(np.argmax(inner.std(axis=(0, 2)))) + len(volume[0]) // 4
    return z, y
