"""Captions to start from in the Caption tab."""

from __future__ import annotations

from collections.abc import Mapping

from ideogram_q8.ui.engine.draft import Draft, Element

TEMPLATES: Mapping[str, Draft] = {
    "Poster: one word, one shape": Draft(
        background="plain teal",
        elements=(
            Element("text", "white letters", "OPEN", (0, 0, 250, 1000)),
            Element("obj", "a red house", bbox=(375, 250, 875, 750)),
        ),
    ),
    "Photograph of a person": Draft(
        "A portrait of a ceramics maker in her workshop, hands on a half-finished bowl.",
        "a workshop with shelves of unglazed bowls, out of focus",
        "photo",
        "warm, unposed",
        "window light from the left",
        "photograph",
        "85 mm, shallow depth of field",
        elements=(Element("obj", "a woman in a grey apron, both hands on a wet clay bowl", bbox=(100, 200, 1000, 800)),),
    ),
    "Shop sign": Draft(
        "A hand-painted sign above the door of a bakery.",
        "a brick wall in the morning",
        "photo",
        "friendly, worn",
        "soft morning light",
        "photograph",
        "35 mm, straight on",
        elements=(
            Element(
                "text",
                "hand-painted serif letters, cream on dark green",
                "FRESH BREAD",
                (180, 120, 420, 880),
                ("#FFF4DC", "#1E3B2F"),
            ),
            Element("text", "small capitals below", "since six this morning", (440, 260, 530, 740)),
        ),
    ),
    "Event flyer": Draft(
        "A flyer for an evening of chamber music.",
        "deep blue paper with fine grain",
        "art_style",
        "calm, spacious",
        "flat",
        "graphic design",
        "modernist poster, large type, one accent colour",
        ("#0B1F4B", "#F4EDE0", "#E4572E"),
        (
            Element("text", "very large light letters", "STRING QUARTETS", (80, 80, 330, 920), ("#F4EDE0",)),
            Element("obj", "a violin drawn with a single orange line", bbox=(360, 300, 800, 700), palette=("#E4572E",)),
            Element("text", "small text, two lines", "Friday 12 March, 19:30\nTown Hall", (840, 80, 950, 920), ("#F4EDE0",)),
        ),
    ),
}
