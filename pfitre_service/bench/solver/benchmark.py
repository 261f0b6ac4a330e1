"""`pfitre bench solver`: the data step beside the published way, in one run, at equal residual.

    (A^T A + rho) x = A^T y        Shepp-Logan, one slice, a wedge of angles missing

Both start from zero and the same sinogram, in turn (A B A B). The published way ends by its own tolerance; ours runs
until its residual is as small. Each residual is taken with its own operator, because the two footprints differ by
some tenths of a percent, more than the tolerance; that both solve the same problem is shown by the data misfit
under ASTRA's projector and by the error against the phantom. The sinogram is ASTRA's own, which favours ASTRA.
ASTRA's kernel is "strip", the same areas of pixels under a column as ours, and the slowest of its three; `ratio_linear`
says what is left of the ratio with its quickest, "linear", whose operator differs by one to two percent.
One thread by default, because ASTRA's projector for CPUs uses one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pfitre_service.bench.solver.convolution_solver import ConvolutionSystem
from pfitre_service.bench.solver.head_phantom import shepp_logan
from pfitre_service.bench.solver.published_solver import AstraSystem
from pfitre_service.bench.solver.transform_floor import measure_floor, median_seconds
from pfitre_service.recon.quality.similarity import psnr

_TURN = 5
"""Runs of ours in one turn, of which the median counts: each is short."""


@dataclass(frozen=True)
class Answer:
    """One side's result."""

    seconds: float
    """Median of the data step."""
    setup_seconds: float
    """Once a scan, before any data step: A^T y, and for ours K."""
    applications: int
    """Applications of the normal operator in one data step."""
    residual: float
    """||r - (K + rho) x|| / ||r|| under its own operator."""
    misfit: float
    """||A x - y|| / ||y|| under ASTRA's projector."""
    psnr: float
    """Against the phantom, decibels; the peak is its largest value, 1."""


def run(
    *,
    size: int = 256,
    angles: int = 140,
    missing_degrees: float = 40.0,
    rho: float = 15.0,
    repeats: int = 3,
    batch: int = 16,
    threads: int = 1,
) -> dict[str, Any]:
    """Measures both; returns plain numbers (see `Answer` and `TransformFloor` for what they mean).

    rho: absolute, the middle of the published range 5 to 25; batch: slices solved together in a further timing of ours.
    Raises InputError where the ASTRA toolbox is missing.
    """
    degrees = np.linspace(-90 + missing_degrees / 2, 90 - missing_degrees / 2, angles)
    phantom = shepp_logan(size)
    astra = AstraSystem(size, degrees, rho, "strip")
    linear = AstraSystem(size, degrees, rho, "linear")
    convolution = ConvolutionSystem(size, degrees, rho)
    slab = ConvolutionSystem(size, degrees, rho, slices=batch)
    sinogram = astra.project(phantom)

    with _torch_threads(threads):
        setups = [_seconds(lambda: astra.set_up(sinogram)), _seconds(lambda: convolution.set_up(sinogram))]
        published_times, linear_times, our_times = [], [], []
        linear.set_up(sinogram)
        for _ in range(repeats):
            linear_times.append(_seconds(linear.solve))
            started = time.perf_counter()
            picture = astra.solve()
            published_times.append(time.perf_counter() - started)
            target = astra.relative_residual(picture)
            our_times.append(median_seconds(partial(convolution.solve, target), _TURN))
        ours_picture = convolution.solve(target)
        iterations = convolution.applications - 1  # one application serves the first residual
        slab.set_up(sinogram)
        batched = median_seconds(lambda: slab.solve(iterations=iterations), 3) / batch
        floor = measure_floor(size)

    def answer(times: list[float], setup: float, applications: int, residual: float, x: NDArray[np.float32]) -> Answer:
        misfit = _distance(astra.project(x), sinogram)
        decibels = float(psnr(x[None], phantom[None]))
        return Answer(statistics.median(times), setup, applications, residual, misfit, decibels)

    published = answer(published_times, setups[0], astra.applications, target, picture)
    ours = answer(
        our_times,
        setups[1],
        convolution.applications,
        convolution.relative_residual(ours_picture),
        ours_picture[0],
    )
    iteration = ours.seconds / iterations
    return {
        "size": size,
        "angles": angles,
        "missing_degrees": missing_degrees,
        "rho": rho,
        "kernel": "strip",
        "repeats": repeats,
        "threads": threads,
        "ratio": published.seconds / ours.seconds,
        "ratio_with_setup": (published.seconds + published.setup_seconds) / (ours.seconds + ours.setup_seconds),
        "ratio_linear": statistics.median(linear_times) / ours.seconds,
        "ratio_batched": published.seconds / batched,
        "published": asdict(published),
        "ours": asdict(ours),
        "batch": batch,
        "seconds_per_slice_batched": batched,
        "operator_difference": _distance(convolution.normal(phantom[None])[0], astra.normal(phantom)),
        "solution_difference": _distance(ours_picture[0], picture),
        "iteration_seconds": iteration,
        "iteration_gigaflops": floor.flops / iteration / 1e9,
        "iteration_gigabytes_per_second": floor.megabytes / iteration / 1e3,
        "floor": asdict(floor),
        "floor_gigaflops": floor.flops / floor.seconds / 1e9,
        "times_the_floor": iteration / floor.seconds,
    }


def render(result: dict[str, Any]) -> str:
    """The result as a table for people."""
    published, ours, floor = result["published"], result["ours"], result["floor"]
    rows = [
        ("", "published", "pfitre"),
        ("seconds a data step", f"{published['seconds']:.3f}", f"{ours['seconds']:.4f}"),
        (f"  a slice, {result['batch']} at once", "", f"{result['seconds_per_slice_batched']:.4f}"),
        ("seconds of set-up", f"{published['setup_seconds']:.3f}", f"{ours['setup_seconds']:.3f}"),
        ("operator applications", f"{published['applications']}", f"{ours['applications']}"),
        ("relative residual", f"{published['residual']:.2e}", f"{ours['residual']:.2e}"),
        ("data misfit", f"{published['misfit']:.2e}", f"{ours['misfit']:.2e}"),
        ("PSNR (dB)", f"{published['psnr']:.2f}", f"{ours['psnr']:.2f}"),
    ]
    table = [f"{name:<28}{left:>12}{right:>12}" for name, left, right in rows]
    return "\n".join(
        [
            f"Data step, {result['size']} x {result['size']}, {result['angles']} angles, {result['missing_degrees']:g} "
            f"degrees missing, rho {result['rho']:g}, {result['threads']} thread(s)",
            f"published: SciPy GMRES on ASTRA's CPU projector ({result['kernel']})",
            "",
            *table,
            "",
            f"{result['ratio']:.0f} times faster ({result['ratio_linear']:.0f} against ASTRA's linear kernel, "
            f"{result['ratio_with_setup']:.0f} with set-up, {result['ratio_batched']:.0f} a slice in a batch)",
            f"the solutions differ by {100 * result['solution_difference']:.1f} %, "
            f"the operators by {100 * result['operator_difference']:.2f} %",
            f"one iteration {1e3 * result['iteration_seconds']:.2f} ms, its bare transforms "
            f"{1e3 * floor['seconds']:.2f} ms ({result['times_the_floor']:.1f} times the floor; "
            f"{result['iteration_gigaflops']:.1f} of {result['floor_gigaflops']:.1f} GFLOP/s); "
            f"two plain transforms {1e3 * floor['plain_seconds']:.2f} ms",
        ]
    )


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _distance(x: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float(np.linalg.norm((x - reference).astype(np.float64)) / np.linalg.norm(reference.astype(np.float64)))


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
