"""The policies, a row each: what makes a recipe, what it needs, what is said of it. No torch.

`recipe make`, its help and refusals, and the sentence and commands of a model card go through `POLICIES`: a policy is added by a row here
and a function in `ideogram_q8.policies`, and nowhere else (docs/adding.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ideogram_q8.recipes.plan import NAIVE


@dataclass(frozen=True)
class Policy:
    """What chooses what each Linear gets.

    Attributes:
        name: its name in recipes and on the command line.
        place: where its function is, as "paper:make" in `ideogram_q8.policies`: from a `policies.request.PolicyRequest` to a recipe.
        help: a few words for the command line.
        sentence: what it does, for a model card; begins in lower case and has no full stop.
        needs_statistics: whether it looks at what `calibrate` recorded.
        options: the options of `recipe make` that are for it, as Python names.
        makes_text_encoders: whether it can choose for a text encoder as well.
    """

    name: str
    place: str
    help: str
    sentence: str
    needs_statistics: bool = False
    options: tuple[str, ...] = ()
    makes_text_encoders: bool = True


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            NAIVE,
            "naive:make",
            "W8A8 in all blocks",
            "attention and feed-forward Linears become W8A8, the rest stays bfloat16; no statistics are looked at",
        ),
        Policy(
            "paper",
            "paper:make",
            "smoothed, the most fragile kept",
            "SmoothQuant, and the Linears that lose most stay bfloat16 (arXiv 2606.12280)",
            needs_statistics=True,
            options=("alpha", "protect"),
        ),
        Policy(
            "convrot",
            "convrot:make",
            "all rotated, as ComfyUI's builds",
            "every Linear of the blocks is rotated, as ComfyUI's INT8-ConvRot builds are",
        ),
        Policy(
            "auto",
            "auto:make",
            "the best int8 of each by measured error, within a size",
            "for each Linear the best of plain, smoothed, rotated and bfloat16 by its measured output error, under one budget of bytes",
            needs_statistics=True,
            options=("target_size", "no_rotation", "weight_only"),
        ),
        Policy(
            "gguf",
            "gguf:make",
            "the best ggml type of each, likewise",
            "for each Linear the ggml type that its measured output error asks for, under one budget of bytes",
            needs_statistics=True,
            options=("target_size",),
            makes_text_encoders=False,
        ),
    )
}


def policy_of(name: str) -> Policy | None:
    """The policy of a recipe, weighted by importance or not; None of one that is not known here."""
    return POLICIES.get(name.removesuffix("-imatrix"))
