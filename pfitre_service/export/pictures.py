"""The report's pictures: slices with scale bars, curves of the errors, the dial of angles; each one a data address."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from pfitre_service.export.tomogram import Tomogram
from pfitre_service.model import Progress
from pfitre_service.recon.quality.directions import holes, measured_ranges, missing_degrees
from pfitre_service.text_output import percent

_TITLES = {
    "volume": "Result",
    "physics": "Physics alone",
    "expected_error": "Expected error",
    "inferred": "Inferred part",
}
_SAMPLED = 16
_WIDTH_IN, _MOST_HEIGHT_IN = 7.3, 3.7
_TEXT, _INK, _FAINT = 8, "#1d2733", "#9aa5b1"
_LINES = (
    ("heldout_error", "held-out error", "#c25e00", "-", 1.8),
    ("heldout_error_physics", "physics alone, held-out", "#6b7785", "--", 1.4),
    ("residual", "residual", "#0b6aa8", "-", 1.2),
    ("prior_gap", "prior gap", "#2e7d4f", ":", 1.4),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for a page, and what it shows in words."""

    address: str
    """A data: address, whole in itself."""
    words: str
    """What it shows."""


def choose_cuts(tomogram: Tomogram) -> tuple[int, int, int]:
    """The slices with most contrast among the inner ones, from a sample of slices along z.

    Parameters
    ----------
    tomogram
        What is drawn.

    Returns
    -------
    tuple[int, int, int]
        Indices along z, y and x.
    """
    depth = tomogram.shape[0]
    places = sorted({round(place) for place in np.linspace(0.1 * (depth - 1), 0.9 * (depth - 1), _SAMPLED)})
    sample = np.stack([tomogram.main.read(z, z + 1)[0] for z in places])
    return (
        places[int(np.argmax(sample.std(axis=(1, 2))))],
        _inner_argmax(sample.std(axis=(0, 2))),
        _inner_argmax(sample.std(axis=(0, 1))),
    )


def _inner_argmax(contrast: NDArray[Any]) -> int:
    margin = len(contrast) // 4
    return margin + int(np.argmax(contrast[margin : len(contrast) - margin]))


def draw_slices(tomogram: Tomogram, cuts: tuple[int, int, int]) -> Picture:
    """A row for each cut, a column for each array that has a title; all in one window, expected_error in its own.

    Parameters
    ----------
    tomogram
        What is drawn.
    cuts
        Indices along z, y and x.

    Returns
    -------
    Picture
        PNG.
    """
    depth, height, width = tomogram.shape
    sizes = [(height, width), (depth, width), (depth, height)]
    tall = sum(rows / columns for rows, columns in sizes)
    arrays = {name: array for name, array in tomogram.arrays.items() if name in _TITLES}
    count = len(arrays)
    cell = min(_WIDTH_IN / max(count, 3), _MOST_HEIGHT_IN / tall)
    spacing = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(_WIDTH_IN, cell * tall + 0.95), layout=spacing)
    axes = figure.subplots(3, count, squeeze=False, height_ratios=[rows / columns for rows, columns in sizes])
    grey: tuple[float, float] | None = None
    for column, (name, array) in enumerate(arrays.items()):
        slices = [array.cut(axis, cuts[axis]) for axis in range(3)]
        window = _window(slices) if name == "expected_error" or grey is None else grey
        grey = window if name != "expected_error" and grey is None else grey
        for row, picture in enumerate(slices):
            _draw_slice(axes[row, column], picture, "magma" if name == "expected_error" else "gray", window)
            if column == 0:
                axes[row, column].set_ylabel(_across(row, cuts[row]), fontsize=_TEXT, color=_INK)
                _scale_bar(axes[row, column], sizes[row][1], tomogram.pixel_size_nm)
        axes[0, column].set_title(_TITLES[name], fontsize=9.5, color=_INK, fontweight="bold")
        bar = figure.colorbar(
            axes[0, column].images[0], ax=axes[:, column], orientation="horizontal", shrink=0.8, aspect=40, pad=0.01
        )
        bar.set_ticks([*window], labels=[f"{value:.2g}" for value in window])
        bar.ax.tick_params(labelsize=_TEXT - 1, length=2, colors=_INK)
        bar.outline.set_visible(False)
    shown = ", ".join(_TITLES[name] for name in arrays)
    places = ", ".join(f"{axis} = {at}" for axis, at in zip("zyx", cuts, strict=True))
    return Picture(_address(figure, "png", dpi=200), f"Slices at {places} of: {shown}")


def _across(axis: int, place: int) -> str:
    across, down = ("x →", "y ↓") if axis == 0 else (("x →", "z ↓") if axis == 1 else ("y →", "z ↓"))
    return f"{'zyx'[axis]} = {place}\n({across} {down})"


def _window(slices: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    values = np.concatenate([picture[np.isfinite(picture)] for picture in slices])
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (1, 99.7)))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def _draw_slice(axis: Any, picture: NDArray[np.float32], colours: str, window: tuple[float, float]) -> None:
    axis.imshow(picture, cmap=colours, vmin=window[0], vmax=window[1], interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def _scale_bar(axis: Any, columns: int, pixel_size_nm: float | None) -> None:
    """A bar of a round length, about a quarter of the picture, and what it is long."""
    from matplotlib.patheffects import withStroke

    step = 1.0 if pixel_size_nm is None else pixel_size_nm
    length = round_length(columns * step / 4)
    pixels = length / step
    rows = axis.images[0].get_array().shape[0]
    left, low = 0.04 * columns, rows - 1 - 0.05 * columns
    edge = [withStroke(linewidth=3.2, foreground="black", alpha=0.7)]
    axis.plot([left, left + pixels], [low, low], color="white", linewidth=2, path_effects=edge, solid_capstyle="butt")
    axis.text(
        left,
        low - 0.025 * columns,
        in_words(length, pixel_size_nm),
        color="white",
        fontsize=_TEXT,
        va="bottom",
        path_effects=[withStroke(linewidth=1.8, foreground="black", alpha=0.7)],
    )


def round_length(about: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is no longer.

    Parameters
    ----------
    about
        A length.

    Returns
    -------
    float
        In the same unit.
    """
    power = 10.0 ** math.floor(math.log10(about))
    return next(factor * power for factor in (5, 2, 1) if factor * power <= about)


def in_words(length: float, pixel_size_nm: float | None) -> str:
    """A length in words.

    Parameters
    ----------
    length
        nm where the size of a pixel is known, else pixels.
    pixel_size_nm
        Side of a pixel; None where it is not known.

    Returns
    -------
    str
        Such as 2 µm.
    """
    if pixel_size_nm is None:
        return f"{length:g} pixels"
    return f"{length / 1000:.4g} µm" if length >= 1000 else f"{length:.4g} nm"


def draw_curves(rows: Sequence[Progress]) -> Picture:
    """Errors against the solver's iterations, logarithmic; a line where the last projection came in.

    Parameters
    ----------
    rows
        Of `progress`, oldest first.

    Returns
    -------
    Picture
        SVG.
    """
    figure = Figure(figsize=(4.9, 1.8), layout="constrained")
    axis = figure.subplots()
    along = np.array([row.iterations for row in rows])
    told = []
    for name, label, colour, style, width in _LINES:
        values = np.array([getattr(row, name) for row in rows], float)
        good = np.isfinite(values) & (values > 0)
        if good.any():
            last = percent(values[good][-1])
            axis.plot(along[good], values[good], style, color=colour, linewidth=width, label=f"{label}: {last}")
            told.append(f"{label} {last}")
    if rows:
        complete = next(row.iterations for row in rows if row.angles_used == rows[-1].angles_used)
        axis.axvspan(0, complete, color="#0b6aa8", alpha=0.07, linewidth=0)
        axis.text(
            complete,
            0.985,
            " all projections are in",
            transform=axis.get_xaxis_transform(),
            va="top",
            fontsize=_TEXT - 1,
            color="#0b6aa8",
        )
    if told:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axis.yaxis.set_minor_formatter(lambda value, _: f"{100 * value:g} %" if f"{value:e}"[0] in "25" else "")
        axis.legend(fontsize=_TEXT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.6)
    axis.set_xlabel("iterations of the solver", fontsize=_TEXT, color=_INK)
    axis.tick_params(which="both", labelsize=_TEXT - 1, colors=_INK, length=3)
    axis.grid(which="both", color="#e3e8ed", linewidth=0.6)
    axis.margins(x=0.01)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return Picture(_address(figure, "svg"), "Errors during the reconstruction: " + (", ".join(told) or "none measured"))


def draw_dial(angles: Sequence[tuple[float, bool]]) -> Picture:
    """Directions that projections had: measured, held out, and in red those that are missing.

    Parameters
    ----------
    angles
        Degrees, and whether it was held out.

    Returns
    -------
    Picture
        SVG.
    """
    figure = Figure(figsize=(1.85, 1.85), layout="constrained")
    axis = figure.subplots()
    ranges = measured_ranges(angle for angle, _ in angles)
    for start, end in holes(ranges):
        for turn in (0, 180):
            arc = np.radians(np.linspace(start + turn, end + turn, 60))
            axis.fill([0, *np.cos(arc)], [0, *np.sin(arc)], color="#e9a8a0", alpha=0.65, linewidth=0)
    for angle, held in angles:
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        inner, colour, width = (0.3, "#c25e00", 1.7) if held else (0.5, "#0b6aa8", 0.8)
        axis.plot([inner * x, x], [inner * y, y], color=colour, linewidth=width)
        # The same direction seen from behind.
        axis.plot([-0.85 * x, -x], [-0.85 * y, -y], color=colour, linewidth=0.5, alpha=0.6)
    circle = np.linspace(0, 2 * math.pi, 240)
    axis.plot(np.cos(circle), np.sin(circle), color=_FAINT, linewidth=0.8)
    for degrees in (0, 45, 90, -45):
        x, y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        axis.text(1.16 * x, 1.16 * y, f"{degrees}°", ha="center", va="center", fontsize=_TEXT - 1, color=_INK)
    axis.set_aspect("equal")
    axis.set_xlim(-1.15, 1.35)
    axis.set_ylim(-1.2, 1.25)
    axis.axis("off")
    count = sum(held for _, held in angles)
    return Picture(
        _address(figure, "svg"),
        f"{len(angles)} angles, {count} held out; {missing_degrees(ranges):.0f} of 180° missing",
    )


def _address(figure: Figure, kind: str, **options: Any) -> str:
    sink = io.BytesIO()
    # Without a date the same tomogram gives the same picture.
    figure.savefig(sink, format=kind, metadata={"Date": None} if kind == "svg" else None, **options)
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return f"data:{mime};base64,{base64.b64encode(sink.getvalue()).decode()}"
