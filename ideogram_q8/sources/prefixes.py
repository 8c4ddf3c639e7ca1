"""The prefixes that single files put before the names of a transformer, and files that hold both transformers.

    ""                            the official file
    "model.diffusion_model."      ComfyUI's and stable-diffusion.cpp's checkpoints
    "diffusion_model.", "transformer.", "model.transformer.", "module.", ...   trainers and pipelines

A prefix is whatever stands before the names that tell Ideogram 4 from other models, so it need not be in a list. Where these names stand
behind two prefixes, the file has both transformers, and the prefix with "uncond" is the unconditional one's:
"model.diffusion_model." and "model.diffusion_model.uncond." in stable-diffusion.cpp (src/stable-diffusion.cpp at 97d2990).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ideogram_q8.errors import SourceError
from ideogram_q8.model.architecture import BRANCHES, Branch
from ideogram_q8.model.components import LANGUAGE_MODEL

MARKS = ("embed_image_indicator.weight", "llm_cond_norm.weight", "t_embedding.mlp_in.weight")
"""Names that tell Ideogram 4 from other models; the first is the one that ComfyUI and stable-diffusion.cpp go by."""

_Stored = TypeVar("_Stored")


def find(stored: Mapping[str, object], where: str) -> list[str]:
    """What stands before the first of MARKS that is there, in the file's order. Raises SourceError: not an Ideogram 4 transformer."""
    for mark in MARKS:
        found = [name.removesuffix(mark) for name in stored if name == mark or name.endswith(f".{mark}")]
        if found:
            return found
    raise SourceError(f"{where} is no Ideogram 4 transformer: it has {len(stored)} tensors, none of them {MARKS[0]}")


def of_text_encoder(stored: Mapping[str, object], where: str) -> str:
    """What stands before the names of a text encoder: "" or "model.". Raises SourceError: it is none."""
    mark = f"{LANGUAGE_MODEL}layers.0.self_attn.q_proj.weight"
    for prefix in ("", "model."):
        if prefix + mark in stored:
            return prefix
    raise SourceError(f"{where} is no text encoder of Ideogram 4: it has {len(stored)} tensors, none of them {mark}")


def by_branch(found: Sequence[str], where: str) -> dict[Branch, str] | None:
    """The prefix of each transformer where there are two; None where there is one. Raises SourceError: it is not to be told."""
    if len(found) == 1:
        return None
    unconditional = [prefix for prefix in found if "uncond" in prefix.lower()]
    if len(found) != len(BRANCHES) or len(unconditional) != 1:
        raise SourceError(
            f"{where} holds {len(found)} transformers, and their prefixes {', '.join(map(repr, found))[:200]} do not tell which of them is "
            'the unconditional one; expected two, one of them with "uncond"'
        )
    (conditional,) = (prefix for prefix in found if prefix not in unconditional)
    return {"conditional": conditional, "unconditional": unconditional[0]}


def single(stored: Mapping[str, object], where: str) -> str:
    """The prefix of a file with one transformer. Raises SourceError: it has another number of them."""
    found = find(stored, where)
    if by_branch(found, where) is not None:
        raise SourceError(f"{where} holds both transformers; name it by itself, with no file beside it")
    return found[0]


def own_names(stored: Mapping[str, _Stored], prefix: str, where: str, other: str | None = None) -> dict[str, _Stored]:
    """What belongs to the transformer with a prefix, by names without it.

    Args:
        other: the prefix of the other transformer in the file; what has neither prefix belongs to the one whose prefix is shorter.

    Raises:
        SourceError: a tensor is there with the prefix and without.
    """
    named: dict[str, _Stored] = {}
    for name, tensor in stored.items():
        if other is not None and prefix != max(_fitting(name, prefix, other), key=len):
            continue
        own = name.removeprefix(prefix)
        if own in named:
            raise SourceError(f"{where} has both {own} and {prefix}{own}; expected one of them: leave the one that is meant")
        named[own] = tensor
    return named


def _fitting(name: str, *prefixes: str) -> tuple[str, ...]:
    """The prefixes that a name has, or else the shorter one."""
    return tuple(prefix for prefix in prefixes if name.startswith(prefix)) or (min(prefixes, key=len),)
