"""A caption as the transformers see it: the text encoder's features, projected by the conditional branch.

The features are 53,248 wide; only what the projection makes of them is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from diffusers import Ideogram4Transformer2DModel
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedTokenizerBase, Qwen3VLTextModel

from ideogram_q8.errors import CaptionError, SourceError
from ideogram_q8.model.architecture import MAX_TEXT_TOKENS, TEXT_TAPS
from ideogram_q8.numerics import fp8
from ideogram_q8.runtime.layers.packed import Fp8Linear, PackedLinear

_BEFORE, _AFTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
"""Around a caption: one turn of the user, no system turn (ideogram-oss/ideogram4 at 415abf4 builds the same text). A tokenizer's own
`chat_template` is a program from whoever made the folder, which may never end; no template but this one is run."""
_ROWS = 256
"""Of the projection's weight, hashed at a time."""


@torch.no_grad()
def project(transformer: Ideogram4Transformer2DModel, features: torch.Tensor) -> torch.Tensor:
    """[n, features of the text encoder] -> [n, hidden_size] through `llm_cond_norm` and `llm_cond_proj`, in the same dtype."""
    return transformer.llm_cond_proj(transformer.llm_cond_norm(features))


@torch.no_grad()
def text_features(encoder: Qwen3VLTextModel, tokenizer: PreTrainedTokenizerBase, caption: str) -> torch.Tensor:
    """The raw outputs of the 13 tapped decoder layers, taps fastest: float32 [n_text, 13 * width of the encoder].

    Raises:
        CaptionError: more than MAX_TEXT_TOKENS tokens.
        SourceError: the tokenizer breaks down, as one with a hostile pattern does.
    """
    ids = _token_ids(tokenizer, caption)
    if ids.shape[1] > MAX_TEXT_TOKENS:
        raise CaptionError(f"the caption has {ids.shape[1]} tokens; the model reads {MAX_TEXT_TOKENS}: shorten it")
    taps = _run_taps(encoder, ids)
    return torch.stack(taps, dim=-1)[0].flatten(1).to(torch.float32)


def _token_ids(tokenizer: PreTrainedTokenizerBase, caption: str) -> torch.Tensor:
    """int64 [1, n_text]: the caption as the one turn of a conversation. Raises SourceError: the tokenizer breaks down."""
    try:
        ids: torch.Tensor = tokenizer(_BEFORE + caption + _AFTER, add_special_tokens=False, return_tensors="pt")["input_ids"]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust code (PyO3), a class that no module exports
            raise
        raise SourceError(f"tokenizer.json broke down on the caption ({error}); download the text encoder again") from None
    return ids


def _run_taps(encoder: Qwen3VLTextModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Raw outputs [1, n, hidden] of the tapped layers for token ids [1, n], by the encoder's own forward."""
    taps: dict[int, torch.Tensor] = {}

    def tap(index: int) -> RemovableHandle:
        def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            taps[index] = output

        return encoder.layers[index].register_forward_hook(keep)

    embedding = encoder.embed_tokens  # of a streamed encoder in host memory
    embedded = embedding(ids.to(embedding.weight.device)).to(encoder.norm.weight.device)
    hooks = [tap(index) for index in TEXT_TAPS]
    try:
        encoder(inputs_embeds=embedded, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [taps[index] for index in TEXT_TAPS]


def projection_digest(transformer: Ideogram4Transformer2DModel, dtype: torch.dtype) -> str:
    """sha256 of what `project` multiplies with, in the dtype of its activations.

    Of values and not of storage where it can be: variants that keep the projection of one checkpoint in other formats, but to the
    bit, share their captions.
    """
    digest = hashlib.sha256(str(dtype).encode())
    for part in _projection_values(transformer.llm_cond_proj):
        digest.update(_bytes(part.to(dtype) if part.is_floating_point() else part))
    for tensor in (transformer.llm_cond_norm.weight, transformer.llm_cond_proj.bias):
        digest.update(_bytes(tensor.to(dtype)))
    return digest.hexdigest()


def _projection_values(layer: nn.Module) -> Iterator[torch.Tensor]:
    """The weight, a few rows at a time; the packed tensors of a layer that has no weight to compare."""
    if isinstance(layer, Fp8Linear):
        pairs = zip(layer.weight.split(_ROWS), layer.scale.split(_ROWS), strict=True)
        yield from (fp8.dequantize_per_row(weight, scale) for weight, scale in pairs)
    elif isinstance(layer, PackedLinear):
        yield from (layer.get_buffer(name) for name in layer.packed_names)
    else:
        yield from layer.get_parameter("weight").split(_ROWS)


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
