"""What the network must be worth, and what of it was not reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pfitre_service.bench.quality.parameters import METHODS

FEWEST_SLICES = 20
WITHIN_OF_BEST = 0.2
"""Decibels that PFITRE may lie below the best method when nothing is missing."""


@dataclass(frozen=True)
class Gain:
    """Of PFITRE over tuned total variation, at least."""

    psnr: float
    ssim: float | None = None


OVER_TV = {60.0: Gain(1.5), 80.0: Gain(2.0), 100.0: Gain(3.0, 0.05)}
"""By degrees missing of a whole scan."""


def shortfalls(line: dict[str, Any]) -> list[str]:
    """What one line of the table (see `quality_summary.summarise`) falls short of, in words; empty if of nothing."""
    found = []
    if line["slices"] < FEWEST_SLICES:
        found.append(f"{line['slices']} slices, of {FEWEST_SLICES} at least")
    whole = line["part"] == 1
    wanted = OVER_TV.get(line["missing"]) if whole else None
    over_tv = line["gain_over_tv"]
    if wanted is not None and over_tv["psnr"]["mean"] < wanted.psnr:
        found.append(f"{over_tv['psnr']['mean']:+.2f} dB over TV, of {wanted.psnr:+g} dB")
    if wanted is not None and wanted.ssim is not None and over_tv["ssim"]["mean"] < wanted.ssim:
        found.append(f"{over_tv['ssim']['mean']:+.3f} SSIM over TV, of {wanted.ssim:+g}")
    over_one_pass = line["gain_over_one_pass"]["psnr"]["mean"]
    if over_one_pass <= 0:
        found.append(f"{over_one_pass:+.2f} dB over one pass, of more than 0")
    if whole and line["missing"] == 0:
        reached = {name: line["methods"][name]["psnr"]["mean"] for name in METHODS}
        best = max(reached, key=lambda name: reached[name])
        if reached["pfitre"] < reached[best] - WITHIN_OF_BEST:
            below = reached["pfitre"] - reached[best]
            found.append(f"{below:+.2f} dB against {METHODS[best]}, the best, of {-WITHIN_OF_BEST:+g} dB at worst")
    return found


def real_shortfalls(errors: dict[str, float]) -> list[str]:
    """The same of the recording: its held-out errors by method."""
    return [
        f"held-out error {errors['pfitre']:.4f}, of less than {words}'s {errors[name]:.4f}"
        for name, words in (("physics", "physics alone"), ("tv", "TV"))
        if errors["pfitre"] >= errors[name]
    ]
