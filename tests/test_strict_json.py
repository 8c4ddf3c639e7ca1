"""Strict JSON: what is not understood, or cannot be computed with, is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ideogram_q8.errors import ArtifactError, RequestError, SourceError
from ideogram_q8.formats.strict_json import check_version, decode, parse_json


@dataclass(frozen=True)
class Circle:
    radius: float

    def __post_init__(self) -> None:
        if self.radius < 0:
            raise RequestError(f"radius is {self.radius}, expected 0 or more")


@dataclass(frozen=True)
class Box:
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    shapes: Mapping[str, Circle | Box]
    notes: tuple[str, ...] | None


def drawing(shape: object) -> Drawing:
    return decode(Drawing, {"shapes": {"a": shape}, "notes": None}, "file", SourceError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1, {"b": 1e999}]}', r"file: a\[1\]: b is inf, expected a number of at most 1\.8e\+308"),
        ('{"a": -1e999}', "file: a is -inf"),
        ('{"a": 1' + "0" * 400 + "}", "file: a is a number of 1329 bits"),
        ("9" * 5000, "not valid JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1, "a": 1}', "key 'a' is given twice"),
    ],
)
def test_what_cannot_be_computed_with_is_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_json(text, "file", SourceError)
    assert len(str(caught.value)) < 200


@given(st.integers(-int(sys.float_info.max), int(sys.float_info.max)) | st.floats(allow_nan=False, allow_infinity=False))
def test_other_numbers_are_read_as_they_are(number: float) -> None:
    assert parse_json(f'{{"a": {number!r}}}', "file", SourceError) == {"a": number}


def test_a_union_takes_the_dataclass_that_fits_best() -> None:
    assert drawing({"radius": 1}).shapes["a"] == Circle(1)
    assert drawing({"width": 1, "height": 2.5}).shapes["a"] == Box(1, 2.5)
    with pytest.raises(SourceError, match=r"shapes\['a'\]: unknown key 'colour'; expected radius"):
        drawing({"radius": 1, "colour": 3})
    with pytest.raises(SourceError, match=r"shapes\['a'\]: got \[\], expected an object"):
        drawing([])


def test_a_refusal_of_the_dataclass_itself_names_the_place() -> None:
    with pytest.raises(SourceError, match=r"file: shapes\['a'\]: radius is -1, expected 0 or more"):
        drawing({"radius": -1})


def test_a_whole_number_stays_one() -> None:
    assert type(decode(Circle, {"radius": 3}, "file", SourceError).radius) is int


def test_another_version_is_refused_before_its_keys_are() -> None:
    check_version({"format_version": 2}, 2, "file", ArtifactError, "measure again")
    check_version([], 2, "file", ArtifactError, "measure again")
    with pytest.raises(ArtifactError, match="file: format_version is 1, expected 2; measure again"):
        check_version({"format_version": 1, "other": 0}, 2, "file", ArtifactError, "measure again")
