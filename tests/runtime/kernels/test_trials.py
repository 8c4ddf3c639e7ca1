"""What is tried when a model is loaded, so that no step has to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from ideogram_q8.model.architecture import MAX_TEXT_TOKENS, SIDE_MULTIPLE
from ideogram_q8.runtime.kernels import block_products
from ideogram_q8.runtime.kernels.attention import paths as attention
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.choosing.trials import try_programs
from ideogram_q8.runtime.kernels.linear import ggml, int8
from ideogram_q8.runtime.kernels.rows import fused
from tests.synthetic import TINY

CPU = torch.device("cpu")
ROWS = 1024 * 1024 // SIDE_MULTIPLE**2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[object, ...]]]:
    """What was asked for, with the arguments."""
    found: list[tuple[object, ...]] = []
    for module, name in ((int8, "choose"), (fused, "refusal"), (ggml, "expansion_refusal"), (attention, "choose_on")):
        monkeypatch.setattr(module, name, lambda *arguments, name=name: found.append((name, *arguments)))
    return found


def load(schemes: set[str], *, int8_attention: bool = False) -> None:
    products = block_products(TINY, ROWS, CPU, torch.float32) if "w8a8" in schemes else ()
    try_programs(TINY, CPU, torch.float32, products, schemes, int8_attention=int8_attention)


def test_norms_and_the_blocks_of_the_file_are_tried(asked: list[tuple[object, ...]]) -> None:
    load({"q4_k", "q6_k", "bf16"}, int8_attention=True)
    assert asked == [
        ("refusal", CPU, TINY.hidden_size),
        ("expansion_refusal", "q4_k", CPU),
        ("expansion_refusal", "q6_k", CPU),
        ("choose_on", CPU, torch.float32, TINY.attention_head_dim),
    ]


def test_products_are_tried_with_captions_of_every_length(asked: list[tuple[object, ...]]) -> None:
    load({"w8a8"})
    problems = [each for name, each, *_ in asked if name == "choose"]
    tried = {(table.bucket(each.rows), each.inputs, each.outputs) for each in problems if isinstance(each, int8.Problem)}
    for text in (0, 1, 77, 512, 513, MAX_TEXT_TOKENS):
        for product in block_products(TINY, ROWS + text, CPU, torch.float32):
            assert (table.bucket(ROWS + text), product.problem.inputs, product.problem.outputs) in tried


def test_a_card_that_is_full_is_tried_later_and_a_defect_is_not_hidden(
    asked: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: Exception) -> None:
        def refusal(*_: object) -> None:
            raise error

        monkeypatch.setattr(fused, "refusal", refusal)

    fails(torch.OutOfMemoryError("17 GiB"))
    load({"q4_k"})
    assert asked == [("expansion_refusal", "q4_k", CPU)]
    fails(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        load({"q4_k"})
