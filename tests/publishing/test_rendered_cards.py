"""The committed cards of the pocket's builds are what the tool renders today from the report, manifests and pictures beside them.

After a change of weights, recipes or measuring, make all of them again (docs/publishing.md says how); after one of the template alone:

    python -m ideogram_q8 card --again --repo ideogram-q8/pocket --out model_cards
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.report import Report
from ideogram_q8.model.schemes import NAMED_SCHEMES
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples
from ideogram_q8.publishing.cards.card_method import recipe_of
from ideogram_q8.publishing.cards.cards import REPORT, manifests_in, rendered
from ideogram_q8.publishing.cards.licence import APACHE
from ideogram_q8.publishing.pushing.checks import card_problems
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.sources import open_source

CARDS = Path(__file__).resolve().parents[2] / "model_cards"
MANIFESTS = manifests_in(CARDS, "pocket")


def committed() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in CARDS.glob("pocket-*.md")}


def test_committed_cards_are_up_to_date() -> None:
    cards = rendered(CARDS, "ideogram-q8/pocket")
    assert sorted(cards) == sorted(committed())
    for name, text in cards.items():
        assert committed()[name] == text, f"render {name} again, see above"
        assert list(card_problems(text, APACHE)) == []


def test_the_pictures_are_those_of_the_report() -> None:
    report = Report.from_json((CARDS / f"pocket-{REPORT}").read_text(encoding="utf-8"))
    named = [(sample.path, sample.sha256) for variant in report.variants for sample in variant.samples]
    if (CARDS / ALBUM).is_file():
        album = Samples.from_json((CARDS / ALBUM).read_text(encoding="utf-8"))
        album.check(report)
        named += [(image.path, image.sha256) for image in album.images]
    for path, digest in named:
        assert hashlib.sha256((CARDS / path).read_bytes()).hexdigest() == digest, path
    assert {path for path, _ in named} >= {file.relative_to(CARDS).as_posix() for file in CARDS.glob("samples/*/*")}


def _weighted(manifest: Manifest) -> bool:
    return recipe_of(manifest).is_weighted  # which takes the statistics too


@pytest.mark.parametrize("variant", [name for name, manifest in MANIFESTS.items() if not _weighted(manifest)])
def test_the_cards_are_of_the_files_that_are_built_today(variant: str, tmp_path: Path) -> None:
    """By the recipe in the manifest, as the card says."""
    recipe = Recipe.from_json(json.dumps(MANIFESTS[variant].recipe))
    built = quantize(open_source("pocket"), recipe, tmp_path / variant)
    assert built == MANIFESTS[variant], "make the cards again, see above"


@pytest.mark.parametrize("scheme", [name for name in NAMED_SCHEMES if name in MANIFESTS])
def test_a_scheme_still_means_the_same_recipe(scheme: str) -> None:
    recipe = choose(scheme, open_source("pocket").config)
    assert json.loads(recipe.to_json()) == MANIFESTS[scheme].recipe
