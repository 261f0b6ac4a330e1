"""Tables of angles as people write them. What is right is what a person reads in the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pfitre_service.errors import InputError
from pfitre_service.ingest.scan_files.angle_table import read_angles

RIGHT = [-74.5, 0.0, 12.25]


@pytest.mark.parametrize(
    "text",
    [
        "-74.5\n0\n12.25",
        "angle\n-74.5\n0\n12.25\n",
        "\ufeffAngle [deg]\r\n-74.5\r\n0\r\n12.25\r\n",
        "  -74.50\n   0.00\n  12.25\n",
        "angle\n-74,5\n0,0\n12,25\n",
        "-74,5\n0\n12,25\n",
        "index;angle\n1;-74,5\n2;0,0\n3;12,25\n",
        "index\ttheta (deg)\n1\t-74.5\n2\t0\n3\t12.25\n",
        "index, Theta\n1, -74.5\n2, 0\n3, 12.25\n",
        "# made by hand\n-74.5\n\n% more\n0\n12.25",
        "tilt_angle,exposure\n-74.5,1\n0,1\n12.25,1\n",
        "-7.45e1\n0e0\n+12.25\n",
    ],
)
def test_a_column_of_angles_is_read_however_it_is_written(tmp_path: Path, text):
    table = tmp_path / "angles.txt"
    table.write_text(text)
    np.testing.assert_array_equal(read_angles(table).angles, RIGHT)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        table.write_bytes(text.lstrip("\ufeff").encode(encoding))
        np.testing.assert_array_equal(read_angles(table).angles, RIGHT)


@pytest.mark.parametrize(
    "text", ["file,angle\nb.tif,-74.5\na.tif,0\nc.tif,12.25\n", "b.tif -74.5\na.tif 0\nc.tif 12.25\n"]
)
def test_names_of_files_beside_the_angles_are_kept(tmp_path: Path, text):
    (tmp_path / "angles.txt").write_text(text)
    table = read_angles(tmp_path / "angles.txt")
    assert table.files == ("b.tif", "a.tif", "c.tif")
    np.testing.assert_array_equal(table.angles, RIGHT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,5\n2,5\n3,5\n", "may be one number with a decimal comma or two columns"),
        ("1,234.5\n2,345.6\n", "expected one column"),
        ("angle,theta\n1,2\n", "found several"),
        ("x,y\n1,2\n", "found none"),
        ("1 2\n3 4\n", "expected one column"),
        ("angle\n", "a header alone"),
        ("angle\n1\n12.3.4\n", "line 3"),
        ("angle\n1\n1_000\n", "line 3"),
        ("angle\n0x10\n", "line 2"),
    ],
)
def test_a_table_that_can_be_read_in_two_ways_is_refused_not_guessed(tmp_path: Path, text, words):
    (tmp_path / "angles.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_angles(tmp_path / "angles.csv")
