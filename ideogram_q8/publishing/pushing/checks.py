"""What a card must not say, must say, and must have measured before it may be published. Pure: text in, problems out.

The card is made by code from checked files, so these are the last line, against a template or a figure gone wrong: each problem is a
reason to refuse a push, with what to do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from huggingface_hub import RepoCard

from ideogram_q8.formats.report import Measured, NotMeasured, Report, VariantReport
from ideogram_q8.publishing.cards.licence import APACHE, NOTICE_FILE, Licence
from ideogram_q8.publishing.release import Release

REQUIRED = ("psnr",)
"""Figures without which nothing is known of a build's quality."""
_PLACEHOLDERS = (
    r"\b(?:(?i:nan|inf)|None(?! of)|Undefined|TODO|TBD|FIXME|XXX)\b|\{\{|\}\}|\{%|%\}|"
    r"<(?:your|name|repo)[^>\n]*>|\?\?\?|lorem ipsum"
)
_ENDORSEMENT = (
    r"\b(?:endorsed|approved|certified|sponsored|recommended|verified|authori[sz]ed|supported)\s+by\s+(?:the\s+)?ideogram|"
    r"\b(?:partner(?:ship|ed)?|affiliated|collaboration)\s+with\s+ideogram|"
    r"\bofficial(?:ly)?\s+(?:ideogram|release|released|build|quantization|version|model|repository)"
)
_NEGATION = r"\b(?:not|no|nor|neither|never|without)\b|n't\b"


def release_problems(release: Release, cards: Mapping[str, str]) -> list[str]:
    """Why a release cannot be published; `cards` are its cards by their paths."""
    private = {str(Path.home()), str(release.folder.resolve())}
    private |= {str(build.source_folder) for build in release.builds if build.source_folder}
    places = [text for text in sorted(private) if len(text) > 1]
    found = [problem for card in cards.values() for problem in card_problems(card, release.licence, places)]
    for build in release.builds:
        found += figure_problems(build.report, build.measured, build.manifest.variant)
        for file in build.files:
            if file.path.endswith(".json"):
                found += _private_text(file.path, file.read().decode(), places)
    return found


def _private_text(path: str, text: str, private: Sequence[str]) -> Iterator[str]:
    for place in private:
        if place in text:
            yield f"{path} names {place}, a place on this machine that must not become public; make the file again elsewhere"


def card_problems(card: str, licence: Licence, private_text: Sequence[str] = ()) -> Iterator[str]:
    """Why the text of a card cannot be published.

    Args:
        private_text: paths of this machine, which must not appear.
    """
    yield from _metadata_problems(card, licence)
    for found in re.finditer(_PLACEHOLDERS, _own_words(card)):
        yield f"the card says {found[0]!r} in {_line(card, found[0])!r}; measure again, or correct publishing/cards/template.md.j2"
    yield from endorsements(card)
    yield from _private_text("the card", card, private_text)
    if licence != APACHE:
        yield from _duties(card, licence)


def _metadata_problems(card: str, licence: Licence) -> Iterator[str]:
    try:
        values = RepoCard(card).data.to_dict() if card.startswith("---\n") else {}
    except ValueError as error:
        yield f"the card's metadata are not understood ({' '.join(str(error).split())}); correct ideogram_q8/publishing/cards/card.py"
        return
    if not values:
        yield "the card has no metadata between its first two lines of ---; correct publishing/cards/template.md.j2"
        return
    for key, expected in licence.front_matter.items():
        if values.get(key) != expected:
            yield f"the card's metadata say {key}: {values.get(key)!r}, the {licence.title} asks for {expected!r}"
    if any(isinstance(value, float) and not math.isfinite(value) for value in _leaves(values)):
        yield "the card's metadata hold a figure that is no number; measure again"


def _leaves(value: object) -> Iterator[object]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not children:
        yield value
    for child in children:
        yield from _leaves(child)


def _own_words(card: str) -> str:
    """Without code, and without the captions of its pictures."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", re.sub(r"(?m)^widget:\n(?:[- ].*\n)*", "", card), flags=re.DOTALL)


def _line(card: str, text: str) -> str:
    return next((line.strip()[:80] for line in card.splitlines() if text in line), "")


def endorsements(text: str) -> Iterator[str]:
    """Sentences that make Ideogram, Inc. seem to stand behind the files; those that deny it are fine."""
    for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
        flat = " ".join(sentence.split())
        if re.search(_ENDORSEMENT, flat, re.IGNORECASE) and not re.search(_NEGATION, flat, re.IGNORECASE):
            yield f"{flat[:100]!r} implies that Ideogram, Inc. endorses these files, which its Agreement forbids; take it out"


def _duties(card: str, licence: Licence) -> Iterator[str]:
    duties = {
        "that the files were modified": "These files were modified",
        "that Ideogram does not endorse them": "not endorsed by Ideogram, Inc.",
        "that they come without warranty": "disclaimers of warranty",
        "where the Agreement is": licence.copy_file,
        "where the notice is": f"{NOTICE_FILE})",
    }
    for duty, text in duties.items():
        if text not in card:
            yield f"the card does not say {duty} ({text!r} is missing); the {licence.title} asks for it"


def figure_problems(report: Report | None, measured: VariantReport | None, variant: str) -> Iterator[str]:
    """Why the figures do not suffice for a card that people can trust."""
    if report is None:
        yield "nothing is measured: there is no report.json; make one with `python -m ideogram_q8 evaluate`"
        return
    if measured is None:
        known = ", ".join(found.name for found in report.variants)
        yield f"report.json has figures of {known}, none of {variant}; measure this build too"
        return
    for name in REQUIRED:
        figure = measured.figures.get(name)
        if not isinstance(figure, Measured):
            reason = figure.not_measured if isinstance(figure, NotMeasured) else "it is not in report.json"
            yield f"{name} of {variant} is not measured ({reason}); measure it"
