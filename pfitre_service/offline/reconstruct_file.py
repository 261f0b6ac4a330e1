"""`pfitre reconstruct FILE`: a stored scan through the engine, with a progress bar."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from pfitre_service.config import Settings
from pfitre_service.engine.parameters import use_threads
from pfitre_service.engine.reconstruct import Reconstruction, reconstruct
from pfitre_service.export.files import chosen_format, export_with_bar
from pfitre_service.ingest import StoredScan, read_scan, said_to_hold
from pfitre_service.ingest.scan_files.file_order import Order
from pfitre_service.model import Measurement
from pfitre_service.model import Progress as Step
from pfitre_service.offline.exported import as_tomogram
from pfitre_service.recon.calibration.calibration import Calibration
from pfitre_service.text_output import make_console, printable


def reconstruct_file(
    file: Path,
    output: Path | None,
    *,
    angles: Path | None,
    flats: str | None,
    darks: str | None,
    measurement: Measurement | None,
    order: Order,
    axis: float | None,
    prior: str,
    iterations: int | None,
    device: str | None,
    overwrite: bool,
    settings: Settings,
) -> dict[str, Any]:
    """Reads, reconstructs, writes; the summary that `--json` prints. Raises InputError."""
    console = make_console(stderr=True)
    kind = None if output is None else chosen_format(output, None, overwrite=overwrite)
    with console.status(Text(f"reading {printable(str(file))}")):
        said = measurement or (None if settings.documents.measurement == "auto" else settings.documents.measurement)
        scan = said_to_hold(read_scan(file, angles=angles, flats=flats, darks=darks, order=order), said)
    console.print(_describe(scan))
    for note in scan.notes:
        console.print(note)
    use_threads(settings.worker.threads)
    result = _with_progress_bar(console, scan, axis, prior, iterations, device, settings)
    for warning in result.warnings:
        console.print(warning, style="yellow")
    if output is not None and kind is not None:
        tomogram = as_tomogram(result, scan, file.stem)
        export_with_bar(console, tomogram, kind, output, overwrite=overwrite)
    summary = _summary(scan, result, output)
    console.print(_describe_calibration(result.calibration))
    console.print(result.statement.sentence)
    console.print(
        f"{summary['iterations']} iterations in {result.seconds:.1f} s, prior {result.prior}, "
        f"held-out error {result.heldout_error:.4f} (physics alone {summary['heldout_error_physics']:.4f})"
        + (f", written to {output}" if output is not None else "; give --output to keep the volume"),
    )
    return summary


def _with_progress_bar(
    console: Console,
    scan: StoredScan,
    axis: float | None,
    prior: str,
    iterations: int | None,
    device: str | None,
    settings: Settings,
) -> Reconstruction:
    limit = iterations or settings.recon.max_iterations
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("accumulating", total=2 * limit)

        def show(step: Step) -> None:
            error = "" if math.isnan(step.heldout_error) else f", held-out error {step.heldout_error:.4f}"
            words = f"{step.phase} {step.iterations}: residual {step.residual:.4f}{error}, change {step.change:.4f}"
            bar.update(task, advance=1, description=words)

        result = reconstruct(
            scan.projections,
            scan.angles,
            axis=axis,
            prior=prior,
            iterations=iterations,
            device=device,
            flats=scan.flats,
            darks=scan.darks,
            measurement=scan.measurement,
            settings=settings,
            on_progress=show,
        )
        bar.update(task, completed=2 * limit)
    return result


def _describe(scan: StoredScan) -> str:
    count, rows, columns = scan.projections.shape
    kinds = {"line_integral": "line integrals", "transmission": "counts", None: "of a kind that the file does not say"}
    kind = kinds[scan.measurement]
    span = f"{scan.angles.min():g} to {scan.angles.max():g} degrees"
    return f"{scan.source}: {count} projections of {rows} x {columns}, {kind}, {span}"


def _describe_calibration(calibration: Calibration) -> str:
    origins = {"given": "as given", "middle": "the middle of the detector", "found": "found"}
    found = f" within {calibration.axis_uncertainty:.2f}" if calibration.axis_origin == "found" else ""
    shifted = sum(shift != 0 for shift in calibration.shifts)
    drift = f"; {shifted} projections shifted" if shifted else ""
    return f"rotation axis at column {calibration.axis:.2f}, {origins[calibration.axis_origin]}{found}{drift}"


def _summary(scan: StoredScan, result: Reconstruction, output: Path | None) -> dict[str, Any]:
    last = result.history[-1]
    return {
        "file": scan.source,
        "output": output,
        "notes": list(scan.notes),
        "axis": result.calibration.axis,
        "axis_origin": result.calibration.axis_origin,
        "axis_uncertainty": result.calibration.axis_uncertainty,
        "projections_shifted": sum(shift != 0 for shift in result.calibration.shifts),
        "heldout_error": result.heldout_error,
        "heldout_error_physics": last.heldout_error_physics,
        "seconds": result.seconds,
        "residual": last.residual,
        "iterations": last.iterations,
        "frames_used": last.angles_used,
        "volume_shape": list(result.volume.shape),
        "prior": result.prior,
        "quality": result.statement.document(),
        "warnings": list(result.warnings),
        "findings": [asdict(finding) for finding in result.findings],
    }
