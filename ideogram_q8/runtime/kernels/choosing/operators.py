"""What a compiler sees of our kernels: opaque operators with known shapes, so that a model compiles without a break."""

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


def attention_operator(
    function: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Registers `function(q, k, v) -> like q` of [batch, heads, tokens, width] as operator ideogram_q8::NAME.

    The heads of a token lie side by side in the result.
    """
    operator = torch.library.custom_op(f"ideogram_q8::{function.__name__}", function, mutates_args=())

    @operator.register_fake
    def _shape(q: torch.Tensor, _k: torch.Tensor, _v: torch.Tensor) -> torch.Tensor:
        batch, heads, tokens, width = q.shape
        return q.new_empty(batch, tokens, heads, width).transpose(1, 2)

    @functools.wraps(function)
    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return operator(q, k, v) if torch.compiler.is_compiling() else function(q, k, v)

    return call


def in_place_operator(function: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Registers `function(changed, ...) -> None`, which writes its first argument alone, as operator ideogram_q8::NAME."""
    first = next(iter(function.__annotations__))
    operator = torch.library.custom_op(f"ideogram_q8::{function.__name__}", function, mutates_args=(first,))

    @operator.register_fake
    def _nothing(*_arguments: object) -> None:
        return None

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if torch.compiler.is_compiling():
            operator(*args, **kwargs)
        else:
            function(*args, **kwargs)

    return call


def pair_operator(
    function: Callable[_Arguments, tuple[torch.Tensor, torch.Tensor]],
) -> Callable[_Arguments, tuple[torch.Tensor, torch.Tensor]]:
    """Registers `function(x, ...) -> two new tensors like x` as operator ideogram_q8::NAME."""
    operator = torch.library.custom_op(f"ideogram_q8::{function.__name__}", function, mutates_args=())

    @operator.register_fake
    def _shapes(x: torch.Tensor, *_others: object) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.empty_like(x), torch.empty_like(x)

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        return operator(*args, **kwargs) if torch.compiler.is_compiling() else function(*args, **kwargs)

    return call
