"""The policy that needs neither statistics nor weights: W8A8 for attention and feed-forward, the rest bfloat16."""

from __future__ import annotations

from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import Recipe, choose


def make(request: PolicyRequest) -> Recipe:
    """`recipe make --policy naive`."""
    return choose("int8", request.source.config)
