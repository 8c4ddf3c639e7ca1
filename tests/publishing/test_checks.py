"""Cards are checked as text: what they must not say, what they must, and what must have been measured."""

from __future__ import annotations

import dataclasses

import pytest

from ideogram_q8.publishing.cards.card import Figures, render
from ideogram_q8.publishing.cards.licence import APACHE, IDEOGRAM, Licence, licence_of
from ideogram_q8.publishing.pushing.checks import card_problems, endorsements, figure_problems
from ideogram_q8.publishing.pushing.sending import PushProgress
from ideogram_q8.publishing.pushing.show import progress_text
from tests.publishing.example import REPORT, manifest

REPO = "someone/ideogram-4-int8"
CARD = render(manifest("/source"), Figures(), licence_of(manifest("/source")), REPO)
POCKET = render(manifest(), Figures(REPORT, REPORT.variants[1]), APACHE, REPO)


def problems(card: str, licence: Licence = IDEOGRAM) -> list[str]:
    return list(card_problems(card, licence))


def test_the_cards_as_they_are_have_no_problem() -> None:
    assert problems(CARD) == [] and problems(POCKET, APACHE) == []


@pytest.mark.parametrize(
    "text",
    [
        "Endorsed by Ideogram.",
        "An official Ideogram release.",
        "In partnership with\nIdeogram, Inc.",
        "the officially released build",
    ],
)
def test_endorsement_is_found(text: str) -> None:
    assert len(list(endorsements(f"# Title\n\n{text}\n"))) == 1


@pytest.mark.parametrize(
    "text",
    ["This is not an official release.", "Not endorsed by Ideogram, Inc.", "Made from Ideogram 4.", "official code of FLUX"],
)
def test_denial_and_plain_words_are_fine(text: str) -> None:
    assert list(endorsements(text)) == []


@pytest.mark.parametrize(
    "text", ["psnr nan dB", "size NaN", "{{ verdict }}", "TODO: figures", "hf download <your-name>/x", "None dB", "???"]
)
def test_placeholders_are_found(text: str) -> None:
    problem, *_ = problems(f"{CARD}\n{text}\n")
    assert "the card says" in problem and "measure again, or correct" in problem


@pytest.mark.parametrize("text", ["`--out None`", "```\n{{ x }}\n```", "None of these.", "information and finance"])
def test_code_and_words_are_no_placeholders(text: str) -> None:
    assert problems(f"{CARD}\n{text}\n") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("These files were modified", "that the files were modified"),
        ("not endorsed by Ideogram, Inc.", "that Ideogram does not endorse them"),
        ("disclaimers of warranty", "that they come without warranty"),
        ("Notice)", "where the notice is"),
        ("license_name: ideogram-4-non-commercial", "metadata say license_name: None"),
    ],
)
def test_a_duty_left_out_is_found(text: str, message: str) -> None:
    assert any(message in problem for problem in problems(CARD.replace(text, "")))


def test_metadata_must_be_there() -> None:
    assert any("has no metadata" in problem for problem in problems(CARD.split("---\n", 2)[2]))
    broken = POCKET.replace("inference: false", "inference: .nan")
    assert any("a figure that is no number" in problem for problem in problems(broken, APACHE))


def test_private_places_are_found() -> None:
    (problem,) = card_problems(f"{POCKET}\nsee /home/me/models\n", APACHE, ["/home/me"])
    assert "the card names /home/me" in problem


def test_figures_must_be_measured_on_this_build() -> None:
    own = REPORT.variants[1]
    assert list(figure_problems(REPORT, own, "int8")) == []
    assert "there is no report.json" in next(figure_problems(None, None, "int8"))
    assert "figures of fp8, int8, none of q8_0" in next(figure_problems(REPORT, None, "q8_0"))
    without = dataclasses.replace(own, figures={k: v for k, v in own.figures.items() if k != "psnr"})
    assert "psnr of int8 is not measured (it is not in report.json)" in next(figure_problems(REPORT, without, "int8"))


def test_progress_has_a_rate_and_the_time_left() -> None:
    assert progress_text(PushProgress("b.gguf", 0, 4_000_000_000, 0.0)) == "sending b.gguf; 0 bytes of 4.00 GB sent"
    shown = progress_text(PushProgress("b.gguf", 1_000_000_000, 4_000_000_000, 10.0))
    assert shown == "sending b.gguf; 1.00 GB of 4.00 GB sent, 100.00 MB/s, 30 s left"
    assert progress_text(PushProgress("", 5_000, 5_000, 1.0)) == "committing; 5.00 kB of 5.00 kB sent, 5.00 kB/s"
