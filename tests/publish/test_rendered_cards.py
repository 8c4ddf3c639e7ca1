"""The committed cards of the pocket's builds are what the tool renders today from today's weights and model_cards/pocket-report.json.

After a change of weights, recipe, report or template, render them again, for each SCHEME in int8, q8_0, q4_k:

    python -m ideogram_q8 quantize pocket --scheme SCHEME --out DIR && cp model_cards/pocket-report.json DIR/report.json
    python publish/push.py plan DIR --repo ideogram-q8/pocket-SCHEME --card model_cards/pocket-SCHEME.md
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ideogram_q8.checkpoint import open_source
from ideogram_q8.quantization import quantize
from ideogram_q8.recipe import choose
from publish.push import main

CARDS = Path(__file__).resolve().parents[2] / "model_cards"
REPORT = CARDS / "pocket-report.json"


@pytest.mark.parametrize("scheme", ["int8", "q8_0", "q4_k"])
def test_committed_card_is_up_to_date(scheme: str, tmp_path: Path) -> None:
    folder, card = tmp_path / scheme, tmp_path / "card.md"
    source = open_source("pocket")
    quantize(source, choose(scheme, source.config), folder)
    if REPORT.exists():  # without it the cards say "not measured"
        shutil.copy(REPORT, folder / "report.json")
    assert main(["plan", str(folder), "--repo", f"ideogram-q8/pocket-{scheme}", "--card", str(card)]) == 0
    committed = CARDS / f"pocket-{scheme}.md"
    assert committed.read_text(encoding="utf-8") == card.read_text(encoding="utf-8"), (
        f"render {committed.name} again, see above"
    )
