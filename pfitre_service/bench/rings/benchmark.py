"""How strong rings are: this package's profile of stripes beside algotom's removal, on one scan.

Ring strength: in polar coordinates about the rotation axis, what stands out along the radius from a median of 10
pixels, its median over the angle, root mean square over the radius. A ring stands out at all angles; the sample does
not. The innermost 8 pixels are left out: there everything is round.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from pfitre_service.model import FrameBatch, Measurement, ScanGeometry
from pfitre_service.preprocess import PreprocessParameters, References, StripeSearch, to_line_integrals
from pfitre_service.recon.solvers.filtered_backprojection import FilteredBackprojection

_INNERMOST = 8.0
_STEP = 0.5
_DIRECTIONS = 720
_MEDIAN = 21

Sinogram = NDArray[np.float32]
_Method = Literal["auto", "sorting"]
_METHODS: tuple[_Method, ...] = get_args(_Method)


def ring_strength(slices: NDArray[np.float32], radius: float) -> float:
    """Of slices (z, y, x) whose middle is the rotation axis, out to `radius` pixels, in the unit of the slices."""
    radii = np.arange(_INNERMOST, radius, _STEP)[:, None]
    directions = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    middle = (slices.shape[-1] - 1) / 2
    places = middle + radii * np.sin(directions), middle + radii * np.cos(directions)
    polar = np.stack([ndimage.map_coordinates(one, places, order=1) for one in slices])
    outstanding = polar - ndimage.median_filter(polar, size=(1, _MEDIAN, 1), mode="nearest")
    return float(np.sqrt(np.mean(np.square(np.median(outstanding, axis=2)))))


def run(
    images: NDArray[Any],
    angles: NDArray[np.float64],
    *,
    flats: NDArray[Any] | None,
    darks: NDArray[Any] | None,
    measurement: Measurement,
    axis: float | None,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Ring strength and slices (z, y, x) of every way to take stripes out.

    images: (angle, row, column) as detected; angles: (angle,) degrees; flats and darks: (n, row, column); axis: column
    of the rotation axis, the middle by default.
    """
    references = References.from_frames(flats, darks)
    projections = to_line_integrals(images, references, PreprocessParameters(), measurement).values
    geometry = ScanGeometry.from_detector(rows=projections.shape[1], columns=projections.shape[2], axis=axis)
    corrected: dict[str, Sinogram] = {
        "none": projections,
        **{name: _ours(images, angles, references, measurement, name) for name in _METHODS},
        **{f"algotom {name}": _by_row(projections, remove) for name, remove in _algotom().items()},
    }
    slices = {name: _backprojected(values, angles, geometry) for name, values in corrected.items()}
    radius = min(geometry.axis, geometry.columns - 1 - geometry.axis) * 0.95
    rings = {name: ring_strength(picture, radius) for name, picture in slices.items()}
    best = min(value for name, value in rings.items() if name.startswith("algotom"))
    return {"ring_strength": rings, "auto_over_algotom": rings["auto"] / best, "radius": radius}, slices


def render(result: dict[str, Any]) -> str:
    """The figures as text."""
    none = result["ring_strength"]["none"]
    lines = [f"{name:24s} {value:.3g}  {value / none:6.1%}" for name, value in result["ring_strength"].items()]
    return "\n".join(["ring strength, 1 / pixel, and beside no removal", *lines])


def draw(path: Path, slices: dict[str, NDArray[np.float32]], result: dict[str, Any]) -> None:
    """A PNG of the first slice without removal, by the profile, and by algotom: whole, and its middle enlarged."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = ("none", "auto", "algotom sorting")
    low, high = np.percentile(slices["none"][0], (1, 99.8))
    figure, axes = pyplot.subplots(2, len(shown), figsize=(3.4 * len(shown), 7), layout="constrained")
    quarter = slices["none"].shape[-1] // 3
    for column, name in enumerate(shown):
        whole = slices[name][0]
        for row, picture in enumerate((whole, whole[quarter:-quarter, quarter:-quarter])):
            axes[row, column].imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes[row, column].set_axis_off()
        axes[0, column].set_title(f"{name}\nrings {result['ring_strength'][name]:.2g}", fontsize=10)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def _ours(
    images: NDArray[Any], angles: NDArray[np.float64], references: References, measurement: Measurement, method: _Method
) -> Sinogram:
    parameters = PreprocessParameters(stripes=method)
    search = StripeSearch(references, parameters, measurement)
    search.add(FrameBatch("projection", 0, images, angles))
    return to_line_integrals(images, search.found() or references, parameters, measurement).values


def _algotom() -> dict[str, Callable[[Sinogram], Sinogram]]:
    """algotom's removals that leave the sample's own shape in the sinogram, with its usual settings."""
    from algotom.prep import removal  # imports numba: seconds

    return {
        "sorting": lambda sinogram: removal.remove_stripe_based_sorting(sinogram, 21),
        "all": lambda sinogram: removal.remove_all_stripe(sinogram, 3, 51, 21),
    }


def _by_row(projections: Sinogram, remove: Callable[[Sinogram], Sinogram]) -> Sinogram:
    rows = [remove(projections[:, row].copy()) for row in range(projections.shape[1])]
    return np.ascontiguousarray(np.stack(rows, axis=1), dtype=np.float32)


def _backprojected(values: Sinogram, angles: NDArray[np.float64], geometry: ScanGeometry) -> NDArray[np.float32]:
    picture = FilteredBackprojection(geometry)
    picture.add(torch.from_numpy(values), torch.from_numpy(angles))
    return picture.volume().numpy()
