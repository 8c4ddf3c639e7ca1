"""The page about int8 attention: what it says is what its two files hold, and the ways are in the order that it shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.report import Report
from ideogram_q8.studies import attention

CARDS = Path(__file__).resolve().parents[2] / "model_cards" / "ablation"


@pytest.fixture(scope="module")
def errors() -> attention.OperatorErrors:
    return attention.measure(heads=2, queries=16, tokens=300, width=256)


def test_each_part_of_the_operator_helps_where_it_is_for(errors: attention.OperatorErrors) -> None:
    plain, smoothed, operator, int8_values = list(attention.WAYS)[1:]
    found = errors.snr_db
    assert found["keys with a mean"][smoothed] > found["keys with a mean"][plain] + 3
    assert found["outlier channels in q and k"][operator] > found["outlier channels in q and k"][smoothed] + 6
    for kind in found.values():
        assert kind[operator] > 30 and kind[operator] >= kind[int8_values]


def test_values_in_int8_are_attention_too(errors: attention.OperatorErrors) -> None:
    assert all(kind["weights and values in int8 as well"] > 20 for kind in errors.snr_db.values())


def test_heads_are_what_they_are_called() -> None:
    for name, kind in attention.KINDS.items():
        q, k, v = kind.draw(2, 8, 200, 64)
        assert q.shape == (1, 2, 8, 64) and k.shape == v.shape == (1, 2, 200, 64)
        amax = k.abs().amax((0, 1, 2))
        assert (amax.max() > 4 * amax.median()) == (kind.channels > 1), name
        assert (v.abs().max() > 30) == (kind.values > 1), name
    first, again = (attention.Heads().draw(1, 2, 3, 16)[0] for _ in range(2))
    assert torch.equal(first, again)


def test_a_file_is_the_same_object_again(errors: attention.OperatorErrors) -> None:
    assert attention.OperatorErrors.from_json(errors.to_json()) == errors
    with pytest.raises(ArtifactError, match="pocket-attention.json: unknown key 'more'"):
        attention.OperatorErrors.from_json(errors.to_json().replace('"torch"', '"more": 1, "torch"'))


def test_the_committed_page_is_made_of_the_committed_files() -> None:
    errors = attention.OperatorErrors.from_json((CARDS / "pocket-attention.json").read_text(encoding="utf-8"))
    report = Report.from_json((CARDS / "pocket-attention-report.json").read_text(encoding="utf-8"))
    assert (CARDS / "pocket-attention.md").read_text(encoding="utf-8") == attention.markdown(errors, report)


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected a folder that is there"):
        attention.main(["--report", "report.json", "--out", str(tmp_path / "none")])
