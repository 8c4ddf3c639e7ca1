"""Trying what a model will run when it is loaded, while a card has room: in a step, trials come on top of what the step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import replace
from functools import partial

import torch

from ideogram_q8.machine.out_of_memory import lacks_memory
from ideogram_q8.model.architecture import MAX_TEXT_TOKENS, TransformerConfig
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.runtime.kernels.attention import paths as attention
from ideogram_q8.runtime.kernels.choosing import table
from ideogram_q8.runtime.kernels.linear import ggml, int8
from ideogram_q8.runtime.kernels.linear.products import BlockProduct
from ideogram_q8.runtime.kernels.rows import fused


def try_programs(
    config: TransformerConfig,
    device: torch.device,
    dtype: torch.dtype,
    products: Iterable[BlockProduct],
    schemes: Set[str],
    *,
    int8_attention: bool,
) -> None:
    """Makes the choices of a model on a device, which are then remembered, and logged; those that lack the memory wait for their use.

    Args:
        products: those of a picture without a caption; they are tried with captions of any length too.
        schemes: of the model's Linears.
    """
    choices: list[Callable[[], object]] = [partial(fused.refusal, device, config.hidden_size)]
    choices += [partial(ggml.expansion_refusal, block, device) for block in sorted(schemes & BLOCKS.keys())]
    longer = range(0, MAX_TEXT_TOKENS + 1, table.BUCKET)
    problems = (replace(product.problem, rows=product.problem.rows + text) for product in products for text in longer)
    choices += [partial(int8.choose, problem) for problem in problems]
    if int8_attention:
        choices.append(partial(attention.choose_on, device, dtype, config.attention_head_dim))
    for choose in choices:
        _where_there_is_room(choose)


def _where_there_is_room(choose: Callable[[], object]) -> None:
    try:
        choose()
    except Exception as error:
        if not lacks_memory(error):
            raise
