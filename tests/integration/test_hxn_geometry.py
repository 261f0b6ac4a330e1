"""Blobs at known stage positions, scanned as HXN scans, come out of the reconstruction where they are.

Nothing here comes from our own instruments or projectors: line integrals of Gaussian blobs have a closed form. The
place of the beam follows PyXRF (`map_data2D_hxn`): positions of x count times cos(angle), of z times sin(angle), on one
axis across the beam; columns of z are reversed at negative angles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pfitre_service.engine.reconstruct import reconstruct
from pfitre_service.ingest import DocumentRules, FrameFiles, ReadFrames, TomogramAssembler, frames_of

ANGLES = np.arange(-70.0, 71.0, 5.0)
COLUMNS, ROWS = 48, 6
WIDTH, HEIGHT = 0.1, 0.25
"""Of a pixel across the beam, in micrometres."""
REST = {"x": 0.7, "y": -0.3, "z": -1.1}
"""Where the stages stand when a scan is not moving them."""
SIGMA = 0.16
BLOBS = [  # x, y, z in micrometres of the stages, and how bright; no mirror image of them is the same
    (REST["x"] + 1.2, REST["y"] - 0.375, REST["z"] + 0.5, 1.0),
    (REST["x"] - 0.4, REST["y"] + 0.125, REST["z"] + 1.3, 0.7),
    (REST["x"] + 0.3, REST["y"] + 0.375, REST["z"] - 1.0, 0.9),
]


def seen(x: np.ndarray, y: np.ndarray, z: np.ndarray, angle: float) -> np.ndarray:
    """What the beam measures with the stages at x, y, z: integrals along lines in the direction (-sin, cos) of (x, z).

    A line passes a blob at the length of the cross product of its direction with the way to the blob.
    """
    s, c = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape))
    for blob_x, blob_y, blob_z, height in BLOBS:
        beside = (blob_x - x) * c - (blob_z - z) * -s
        squared = beside**2 + (blob_y - y) ** 2
        total += height * SIGMA * np.sqrt(2 * np.pi) * np.exp(-squared / (2 * SIGMA**2))
    return total


def scanned(angle: float, *, columns_back: bool, rows_back: bool, snake: bool) -> tuple[dict[str, Any], np.ndarray]:
    """What HXN's plan says of a map in its start document, and (pixel,) what it measures."""
    radians = np.deg2rad(angle)
    axis, stretch = ("x", np.cos(radians)) if abs(angle) < 44.99 else ("z", abs(np.sin(radians)))
    half = COLUMNS * WIDTH / stretch / 2 * (-1 if columns_back else 1)
    first, last = REST[axis] - half, REST[axis] + half
    bottom, top = REST["y"] - ROWS * HEIGHT / 2, REST["y"] + ROWS * HEIGHT / 2
    # The middles of pixels. Rows are scanned one after the other.
    fast = np.tile(first + (last - first) * (np.arange(COLUMNS) + 0.5) / COLUMNS, (ROWS, 1))
    slow = bottom + (top - bottom) * (np.arange(ROWS) + 0.5) / ROWS
    if rows_back:
        bottom, top, slow = top, bottom, slow[::-1]
    if snake:
        fast[1::2] = fast[1::2, ::-1]
    here = {"x": np.array(REST["x"]), "z": np.array(REST["z"])} | {axis: fast}
    values = seen(here["x"], slow[:, None], here["z"], angle)
    scan = {
        "type": "2D_FLY_PANDA",
        "sample_name": "blobs",
        "scan_input": [first, last, float(COLUMNS), bottom, top, float(ROWS)],
        "fast_axis": {"motor_name": f"zpss{axis}", "units": "um"},
    }
    return {"shape": [COLUMNS, ROWS], "fly_type": "pyramid" if snake else "grid", "scan": scan}, values.ravel()


def documents(uid: str, angle: float, said: dict[str, Any], values: np.ndarray) -> Iterator[tuple[str, dict[str, Any]]]:
    beam = np.linspace(900.0, 1100.0, values.size)
    data = {f"Det{number}_Fe": share * values * beam for number, share in ((1, 0.2), (2, 0.5), (3, 0.3))}
    data["sclr1_ch4"] = beam
    keys = {key: {"dtype": "array", "shape": [values.size], "source": "sim"} for key in data}
    yield "start", {"uid": uid, "time": 1.0, **said}
    angle_key = {"zpsth": {"dtype": "number", "shape": [], "source": "sim"}}
    yield "descriptor", {"uid": f"{uid}-b", "run_start": uid, "name": "baseline", "data_keys": angle_key}
    yield "event", {"uid": f"{uid}-e", "descriptor": f"{uid}-b", "seq_num": 1, "time": 1.0, "data": {"zpsth": angle}}
    yield "descriptor", {"uid": f"{uid}-p", "run_start": uid, "name": "primary", "data_keys": keys}
    yield "event", {"uid": f"{uid}-f", "descriptor": f"{uid}-p", "seq_num": 1, "time": 2.0, "data": data}
    yield "stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success"}


@pytest.fixture(scope="module")
def maps(rules_of_profile: Callable[..., DocumentRules], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(angle, row, column) as ingest makes them of documents, with the profile's rules for one element."""
    rules = rules_of_profile("hxn-xrf", tmp_path_factory.mktemp("none"))
    rules = dataclasses.replace(rules, maps=dataclasses.replace(rules.maps, elements=("Fe",)))
    assembler, files, found = TomogramAssembler(rules), FrameFiles([]), {}
    for place, angle in enumerate(ANGLES):
        said, values = scanned(angle, columns_back=place % 3 == 1, rows_back=place % 4 == 2, snake=place % 5 == 3)
        for name, document in documents(f"run-{place}", angle, said, values):
            for action in assembler.handle(name, document):
                if isinstance(action, ReadFrames):
                    (frame,) = frames_of(action, files)
                    found[frame.angle] = frame.image
    return np.stack([found[angle] for angle in ANGLES])


def test_every_map_is_the_same_object_on_the_axis_across_the_beam(maps):
    """Blobs stand where x cos(t) + z sin(t) says, at all angles, and the profile along u needs no shift or mirror."""
    u = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * WIDTH
    y = (np.arange(ROWS) - (ROWS - 1) / 2) * HEIGHT
    for angle, image in zip(ANGLES, maps, strict=True):
        s, c = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        expected = np.zeros((ROWS, COLUMNS))
        for blob_x, blob_y, blob_z, height in BLOBS:
            centre = (blob_x - REST["x"]) * c + (blob_z - REST["z"]) * s
            up = blob_y - REST["y"]
            spread = ((u - centre) ** 2)[None] + ((y - up) ** 2)[:, None]
            expected += height * SIGMA * np.sqrt(2 * np.pi) * np.exp(-spread / (2 * SIGMA**2))
        np.testing.assert_allclose(image, expected, atol=1e-6, err_msg=f"at {angle} degrees")


def test_blobs_come_out_at_their_places_and_not_mirrored(maps):
    result = reconstruct(maps, ANGLES, axis=(COLUMNS - 1) / 2, prior="none", measurement="line_integral")
    truth = ideal_volume()
    for blob_x, blob_y, blob_z, _ in BLOBS:
        row = round((blob_y - REST["y"]) / HEIGHT + (ROWS - 1) / 2)
        wanted_y = (blob_z - REST["z"]) / WIDTH + (COLUMNS - 1) / 2
        wanted_x = (blob_x - REST["x"]) / WIDTH + (COLUMNS - 1) / 2
        place = brightest(result.volume[row])
        assert place == pytest.approx((wanted_y, wanted_x), abs=0.5)
    straight = likeness(result.volume, truth)
    mirrored = [likeness(result.volume, np.flip(truth, axis)) for axis in (0, 1, 2, (1, 2))]
    assert straight > 0.9
    assert max(mirrored) < 0.5


def ideal_volume() -> np.ndarray:
    """(z, y, x): the blobs' own values, with y along the stage z and x along the stage x."""
    across = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * WIDTH
    up = (np.arange(ROWS) - (ROWS - 1) / 2) * HEIGHT
    grid_y, grid_z, grid_x = np.meshgrid(up + REST["y"], across + REST["z"], across + REST["x"], indexing="ij")
    volume = np.zeros((ROWS, COLUMNS, COLUMNS))
    for blob_x, blob_y, blob_z, height in BLOBS:
        squared = (grid_x - blob_x) ** 2 + (grid_y - blob_y) ** 2 + (grid_z - blob_z) ** 2
        volume += height * np.exp(-squared / (2 * SIGMA**2))
    return volume


def brightest(picture: np.ndarray) -> tuple[float, float]:
    """(y, x) of the middle of what is over half of the brightest pixel, around it."""
    peak = np.unravel_index(picture.argmax(), picture.shape)
    y, x = np.indices(picture.shape)
    near = (np.hypot(y - peak[0], x - peak[1]) < 4) & (picture > picture.max() / 2)
    weights = picture * near
    return float((y * weights).sum() / weights.sum()), float((x * weights).sum() / weights.sum())


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
