"""The number formats that `quantize` can be asked for, and which type each Linear gets in the GGUF ones. Pure data, no torch.

    scheme    attention.qkv  attention.o  feed_forward.w1, w3  feed_forward.w2          adaln_modulation
    q8_0      q8_0           q8_0         q8_0                 q8_0                     q8_0
    q6_k      q6_k           q6_k         q6_k                 q6_k                     q6_k
    q5_k_m    q6_k           q5_k         q5_k                 q5_k, q6_k in half       q8_0
    q4_k_m    q5_k           q4_k         q4_k                 q4_k, q6_k in half       q8_0
    q4_k_s    q4_k           q4_k         q4_k                 q4_k                     q4_k
    a text encoder's Linears are all of a preset's type, with the M presets half of v_proj and down_proj q6_k
    mixed     whatever a recipe says: rules by name, or what `policies.gguf` measured

The M presets follow llama.cpp (llama-quant.cpp, `llama_tensor_get_type_impl`, MIT): a fused qkv gets one step more, because the
values in it do; `ffn_down`, here w2, gets Q6_K in half of the blocks, those of `use_more_bits`. Where llama.cpp has no rule: a
modulation Linear gets Q8_0. It sees one row per picture, so its error moves all tokens alike and no mean takes it away, and it has
3.5 % of the weights. The S preset is Q4_K throughout, what most published files of this model are; llama.cpp's own would raise w2
in the first eighth of the blocks. The seven Linears outside the blocks stay bfloat16, vectors are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LayerScheme = str
"""How a Linear can be stored: a block type of ggml, int8 with or without quantized activations, or a float type."""
INT8_SCHEMES = ("w8a8", "w8a16")


@dataclass(frozen=True)
class Block:
    """A block format.

    Attributes:
        name: as in recipes; in capitals it is gguf-py's and ggml's.
        gguf_type: its number in GGUF files.
        block_size, type_size: so many values are stored in so many bytes.
        file_type: llama.cpp's number of a file that is mostly of this type (llama.h, `llama_ftype`).
        encoder, decoder: where its functions are, as "legacy:encode_q8_0" in `ideogram_q8.numerics.ggml`. The encoder makes uint8 of R
            rows from float32 [R, K] and the importance [K] of the columns or None, the decoder float32 of n blocks from uint8
            [n, type_size].
        can_be_weighted: whether ggml's search for it can be weighed by the importance of each input.
        fallback: what a width gets that its blocks do not divide: llama.cpp's `tensor_type_fallback`; None for bfloat16.
    """

    name: str
    gguf_type: int
    block_size: int
    type_size: int
    file_type: int
    encoder: str
    decoder: str
    can_be_weighted: bool = False
    fallback: str | None = None

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` values, a multiple of block_size."""
        return width // self.block_size * self.type_size


def _block(
    name: str,
    gguf_type: int,
    sizes: tuple[int, int],
    file_type: int,
    module: str,
    *,
    weighted: bool = True,
    fallback: str | None = None,
) -> Block:
    places = f"{module}:encode_{name}", f"{module}:decode_{name}"
    return Block(name, gguf_type, *sizes, file_type, *places, weighted, fallback)


BLOCKS: Mapping[str, Block] = {
    block.name: block
    for block in (
        _block("q8_0", 8, (32, 34), 7, "legacy", weighted=False),
        _block("q6_k", 14, (256, 210), 18, "k_quants", fallback="q8_0"),
        _block("q5_k", 13, (256, 176), 16, "k_quants", fallback="q5_1"),
        _block("q4_k", 12, (256, 144), 14, "k_quants", fallback="q5_0"),
        _block("q5_0", 6, (32, 22), 8, "legacy"),
        _block("q5_1", 7, (32, 24), 9, "legacy"),
        _block("q4_0", 2, (32, 18), 2, "legacy"),
        _block("q4_1", 3, (32, 20), 3, "legacy"),
        _block("iq4_nl", 20, (32, 18), 25, "iq4_nl"),
    )
}
"""The quantized types, a row each: a type is added by a row here and two functions (docs/adding.md)."""
FLOATS: Mapping[str, Block] = {
    block.name: block
    for block in (
        _block("bf16", 30, (1, 2), 32, "floats", weighted=False),
        _block("f16", 1, (1, 2), 1, "floats", weighted=False),
        _block("f32", 0, (1, 4), 0, "floats", weighted=False),
    )
}
"""Not quantized: a block is one number."""


def gguf_types() -> tuple[str, ...]:
    """What a Linear can be stored as in a GGUF file."""
    return (*BLOCKS, *FLOATS)


def layer_schemes() -> tuple[str, ...]:
    """Every `LayerScheme`."""
    return (*BLOCKS, *INT8_SCHEMES, *FLOATS)


def gguf_block(name: str) -> Block:
    """The format of a type of GGUF files, by ggml's name or ours."""
    return {**BLOCKS, **FLOATS}[name.lower()]


def can_be_weighted(scheme: str) -> bool:
    """Whether importance can weigh the search of a type."""
    return scheme in BLOCKS and BLOCKS[scheme].can_be_weighted


INT8 = "int8"
MIXED = "mixed"


def uses_more_bits(block: int, blocks: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth of the blocks, and every third between."""
    return block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2


@dataclass(frozen=True)
class Raised:
    """A kind of Linear that gets another type than the rest, in the blocks for which `where(block, blocks)` holds."""

    type: str
    reason: str
    where: Callable[[int, int], bool] = lambda _block, _blocks: True


@dataclass(frozen=True)
class SchemePreset:
    """A row of the table above; `file_type` is llama.cpp's number of the mixture (llama.h, `llama_ftype`)."""

    type: str
    file_type: int
    raised: Mapping[str, Raised] = field(default_factory=dict)

    def choose(self, kind: str, block: int, blocks: int) -> tuple[str, str]:
        """The type of a Linear inside block number `block` of `blocks`, and why."""
        rule = self.raised.get(kind)
        if rule is not None and rule.where(block, blocks):
            return rule.type, rule.reason
        return self.type, "inside a block"


def _medium(type_: str, file_type: int, qkv: str) -> SchemePreset:
    raised = {
        "attention.qkv": Raised(qkv, "fused with the values"),
        "feed_forward.w2": Raised("q6_k", "of the half of w2 that gets more bits", uses_more_bits),
        "adaln_modulation": Raised("q8_0", "its error moves all tokens alike"),
        "self_attn.v_proj": Raised("q6_k", "of the half of the values that gets more bits", uses_more_bits),
        "mlp.down_proj": Raised("q6_k", "of the half of ffn_down that gets more bits", uses_more_bits),
    }
    return SchemePreset(type_, file_type, raised)


PRESETS: Mapping[str, SchemePreset] = {
    "q8_0": SchemePreset("q8_0", 7),
    "q6_k": SchemePreset("q6_k", 18),
    "q5_k_m": _medium("q5_k", 17, "q6_k"),
    "q4_k_m": _medium("q4_k", 15, "q5_k"),
    "q4_k_s": SchemePreset("q4_k", 14),
}
GGUF_SCHEMES = (*PRESETS, MIXED)
NAMED_SCHEMES = (INT8, *PRESETS)
"""What `quantize` can be asked for without a recipe."""
SCHEMES = (INT8, *GGUF_SCHEMES)
"""What a recipe can be of."""

_ORIGINALS = ("fp8", "bf16", "f16", "f32")
"""What a source's variant is called, where people know the format by that."""
_TITLES = (
    {name: f"{name.upper()} (the original)" for name in _ORIGINALS}
    | {INT8: "INT8 W8A8"}
    | {name: f"GGUF {name.upper()}" for name in GGUF_SCHEMES}
)


INT8_ATTENTION, INT8_COMPUTE = "-int8-attention", "-int8-compute"
"""Ends the name of a variant that computes attention, or with ggml's blocks, in int8, where nobody gave it another."""


def title(variant: str) -> str:
    """What people read for a variant: `INT8 W8A8`, `INT8 W8A8, recipe auto`, `GGUF Q4_K_S, importance-weighted`; else its own name."""
    for ending in (INT8_ATTENTION, INT8_COMPUTE):
        if variant.endswith(ending):
            return f"{title(variant.removesuffix(ending))}, {ending[1:].replace('-', ' ')}"
    scheme, *policies = variant.split("-")
    if scheme not in _TITLES:
        return variant
    words = ("importance-weighted" if policy == "imatrix" else f"recipe {policy}" for policy in policies)
    return ", ".join((_TITLES[scheme], *words))
