"""What travels over PV Access, looked at as a client unpacks it."""

from __future__ import annotations

import numpy as np
import pytest
from p4p.nt import NTNDArray, NTScalar

from pfitre_service.epics.pva_values import Alarm, Severity, Slice, no_picture, picture, picture_alarm, scalar
from pfitre_service.errors import InputError

IMAGE = np.arange(6, dtype=np.float32).reshape(2, 3)
NOW = 1_700_000_000.25


def shown(image=IMAGE, pixel_size_nm=12.5):
    return Slice(image, "run-1", "y", 7, 42, NOW - 2, pixel_size_nm)


def test_the_first_dimension_is_the_column_which_runs_fastest():
    value = picture(shown(), Alarm(), NOW)
    assert [(size.size, size.fullSize, size.offset, size.binning) for size in value.dimension] == [
        (3, 3, 0, 1),
        (2, 2, 0, 1),
    ]
    np.testing.assert_array_equal(value.value, IMAGE.reshape(-1))
    assert value.value.dtype == np.float32
    np.testing.assert_array_equal(NTNDArray.unwrap(value), IMAGE)


def test_a_slice_that_is_a_view_across_the_volume_comes_out_in_order():
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    across = volume[:, :, 1]
    assert not across.flags.c_contiguous
    np.testing.assert_array_equal(NTNDArray.unwrap(picture(shown(across), Alarm(), NOW)), across)


def test_a_picture_says_what_it_is_a_picture_of():
    value = picture(shown(), Alarm(), NOW)
    assert value.uniqueId == 42
    assert NTNDArray.unwrap(value).attrib == {
        "tomogram": "run-1",
        "axis": "y",
        "index": 7,
        "revision": 42,
        "pixel_size_nm": 12.5,
    }
    assert (value.timeStamp.secondsPastEpoch, value.timeStamp.nanoseconds) == (1_700_000_000, 250_000_000)
    assert value.dataTimeStamp.secondsPastEpoch == 1_699_999_998
    assert value.uncompressedSize == value.compressedSize == 24
    assert value.codec.name == ""


def test_a_pixel_of_unknown_size_is_not_given_one():
    attributes = NTNDArray.unwrap(picture(shown(pixel_size_nm=None), Alarm(), NOW)).attrib
    assert "pixel_size_nm" not in attributes


@pytest.mark.parametrize("image", [IMAGE.astype(np.float64), IMAGE[0], IMAGE[None]], ids=["float64", "1-D", "3-D"])
def test_what_is_no_slice_is_refused_by_dtype_and_shape(image):
    with pytest.raises(InputError, match=r"must be float32 \(row, column\); got .*"):
        picture(shown(image), Alarm(), NOW)


def test_before_the_first_slice_there_is_one_pixel_and_an_alarm():
    value = no_picture(Alarm(Severity.INVALID, "nothing yet"), NOW)
    assert NTNDArray.unwrap(value).shape == (1, 1)
    assert (value.alarm.severity, value.alarm.message, value.uniqueId) == (3, "nothing yet", 0)


def test_an_alarm_alone_leaves_the_pixels_out_of_the_update():
    value = picture_alarm(Alarm(Severity.MAJOR, "failed"), NOW)
    assert value.changed("alarm")
    assert not value.changed("value")
    assert not value.changed("dimension")


def test_an_alarm_has_a_status_only_if_there_is_one_and_a_message_that_fits():
    assert Alarm().fields() == {"severity": 0, "status": 0, "message": ""}
    long = Alarm(Severity.MINOR, "x" * 500).fields()
    assert long["status"] == 3
    assert len(long["message"]) == 200
    assert long["message"].endswith("xxx...")


def test_a_scalar_carries_value_alarm_and_limits():
    kind = NTScalar.buildType("i", display=True, control=True)
    value = scalar(kind, 5, Alarm(Severity.MINOR, "careful"), NOW, control={"limitLow": 0, "limitHigh": 11})
    assert (value.value, value.alarm.severity, value.control.limitHigh) == (5, 1, 11)
    assert NTScalar("i").unwrap(value).timestamp == NOW
