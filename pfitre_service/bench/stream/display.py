"""The stream benchmark's result for people."""

from __future__ import annotations

from typing import Any


def render(result: dict[str, Any]) -> str:
    """The result of `stream.run` in a few lines."""
    lag, bare = result["lag_seconds"], result["bare_write"]
    cpu = ", ".join(f"{name} {value:.2f}" for name, value in result["cpu_ms_per_frame"].items())
    over = "" if result["cpu_over_bare_write"] is None else f", {result['cpu_over_bare_write']:.0f} times the CPU"
    way = "through a growing file" if result["file"] else "in the documents"
    return "\n".join(
        [
            f"{result['shape'][0]} x {result['shape'][1]} uint16 {way}, {result['achieved_rate']:.0f} of "
            f"{result['rate']:g} a second for {result['seconds']:g} s ({result['megabytes_per_second']:.0f} MB/s), "
            f"on {result['cores']} cores with a load of {result['load_before']:.1f} before",
            f"sent {result['sent']}, stored {result['stored']}, lost {result['lost']}, refused {result['refused']}, "
            f"unreadable {result['unreadable']}, wrong {result['wrong']}",
            f"from the detector to a stored row: median {lag['median']:.2f} s, 95 % {lag['p95']:.2f} s, "
            f"longest {lag['max']:.2f} s, last frame {lag['at_end']:.2f} s (looked at every {lag['resolution']:g} s)",
            f"CPU ms a frame: {cpu}",
            f"a bare write of the same bytes: {bare['megabytes_per_second']:.0f} MB/s, "
            f"{bare['cpu_ms_per_frame']:.3f} ms of CPU a frame; "
            f"the service took {100 * result['share_of_bare_write']:.0f} % of that rate{over}",
        ]
    )
