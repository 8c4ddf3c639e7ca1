"""images/index.json: the pictures of a card that show a whole report, and the report that they show. Strict, frozen, versioned.

A report names the pictures that its variants painted; the comparison and the charts are made from a report, so they cannot be named in
it. Their index names the report by its sha256: a chart of other figures than those beside it is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.names import is_line, is_sha256
from ideogram_q8.formats.report import Report
from ideogram_q8.formats.strict_json import check_version, decode, parse_json

FILE_NAME = "images/index.json"
FORMAT_VERSION = 1
Theme = Literal["any", "light", "dark"]


@dataclass(frozen=True)
class Image:
    """A picture beside the report; `title` says what it shows, `theme` on which ground it is to be seen."""

    path: str
    sha256: str
    title: str
    theme: Theme

    def __post_init__(self) -> None:
        if not re.fullmatch(r"images/[\w-][\w.-]*", self.path, re.ASCII) or not is_sha256(self.sha256):
            raise ArtifactError(f"path is {self.path!r}, sha256 {self.sha256!r}; expected images/NAME and 64 hex digits")
        if not is_line(self.title, 300):
            raise ArtifactError(f"title is {self.title[:80]!r}, expected a line")


@dataclass(frozen=True)
class Samples:
    """All of images/index.json. `about` says how the captions of the comparison were chosen."""

    format_version: int
    report_sha256: str
    about: str
    images: tuple[Image, ...]

    def __post_init__(self) -> None:
        if not is_line(self.about, 1000):
            raise ArtifactError(f"about is {self.about[:80]!r}, expected a line")

    @property
    def comparison(self) -> Image | None:
        """The pictures of all variants side by side."""
        return next((image for image in self.images if image.theme == "any"), None)

    @property
    def charts(self) -> list[tuple[Image, Image]]:
        """Each as (light, dark), in order; one that has not both is left out."""
        dark = {image.title: image for image in self.images if image.theme == "dark"}
        return [(image, dark[image.title]) for image in self.images if image.theme == "light" and image.title in dark]

    def check(self, report: Report) -> None:
        """Raises ArtifactError: the pictures are of another report."""
        if self.report_sha256 != report_sha256(report):
            raise ArtifactError(f"{FILE_NAME} is of another report than the one beside it; make the cards again")

    def to_json(self) -> str:
        """`from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Samples:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        value = parse_json(text, FILE_NAME, ArtifactError)
        check_version(value, FORMAT_VERSION, FILE_NAME, ArtifactError, "make the cards again")
        return decode(cls, value, FILE_NAME, ArtifactError)


def report_sha256(report: Report) -> str:
    """sha256 of the text of report.json."""
    return hashlib.sha256(report.to_json().encode()).hexdigest()


def index(report: Report, about: str, files: Mapping[str, bytes], titles: Mapping[str, tuple[str, Theme]]) -> Samples:
    """The album of `files` by their paths; `titles` has the title and theme of each."""
    images = tuple(Image(path, hashlib.sha256(data).hexdigest(), *titles[path]) for path, data in files.items())
    return Samples(FORMAT_VERSION, report_sha256(report), about, images)
