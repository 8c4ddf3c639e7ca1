"""What a compiler sees of a Linear on packed weights: one opaque operator with a known shape, so that it compiles without a break."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch

_Arguments = ParamSpec("_Arguments")


def linear_operator(function: Callable[_Arguments, torch.Tensor]) -> Callable[_Arguments, torch.Tensor]:
    """Registers `function(x [..., K], weight [N, ...], ...) -> [..., N] like x` as operator ideogram_q8::NAME.

    Called as it is outside of a compiler: the dispatch of an operator costs 25 us, and there is nothing to gain from it.
    """
    operator = torch.library.custom_op(f"ideogram_q8::{function.__name__}", function, mutates_args=())

    @operator.register_fake
    def _shape(x: torch.Tensor, weight: torch.Tensor, *_others: object) -> torch.Tensor:
        return x.new_empty(*x.shape[:-1], weight.shape[0])

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> torch.Tensor:
        return operator(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

    return call
