"""A build carries its source's licence, and a source of unknown terms cannot be published."""

from __future__ import annotations

import pytest

from ideogram_q8.errors import PublishError
from ideogram_q8.model.architecture import Traits
from ideogram_q8.publishing.cards.licence import APACHE, IDEOGRAM, licence_of, notice_text
from tests.publishing.example import AGREEMENT, manifest


def test_the_source_decides() -> None:
    assert licence_of(manifest("pocket")) == APACHE
    assert licence_of(manifest("/somewhere/ideogram-4-fp8")) == IDEOGRAM
    assert licence_of(manifest("ideogram-ai/ideogram-4-fp8")) == IDEOGRAM


def test_unknown_terms_are_refused() -> None:
    other = manifest("/somewhere/else", Traits("Other", 64, 128, (64, 64), (3.0, 2.0)))
    with pytest.raises(PublishError, match=r"'Other' .* whose licence is not known"):
        licence_of(other)


def test_notice_is_the_sentence_that_the_agreement_dictates() -> None:
    text = notice_text(AGREEMENT, "Modified.")
    assert text == (
        "Ideogram 4 is provided under and subject to the Ideogram Non-Commercial Model Agreement available at "
        "https://example.org/terms. All rights reserved. Copyright © Ideogram, Inc.\n\nModified.\n"
    )


@pytest.mark.parametrize(
    "text", ["", "Apache License", "Ideogram Non-Commercial Model Agreement", AGREEMENT.replace("Non-Commercial", "")]
)
def test_another_text_is_not_the_agreement(text: str) -> None:
    with pytest.raises(PublishError, match=r"LICENSE\.md is not the Ideogram Non-Commercial Model Agreement"):
        notice_text(text, "Modified.")
