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
from typing import Literal, get_args

BlockType = Literal["q8_0", "q6_k", "q5_k", "q4_k", "q5_0", "q5_1", "q4_0", "q4_1", "iq4_nl"]
LayerScheme = Literal[BlockType, "w8a8", "w8a16", "bf16", "f16", "f32"]
"""How a Linear can be stored: a block type of ggml, int8 with or without quantized activations, or a float type."""
INT8_SCHEMES = ("w8a8", "w8a16")
BLOCK_TYPES: tuple[BlockType, ...] = get_args(BlockType)
GGUF_TYPES: tuple[LayerScheme, ...] = (*BLOCK_TYPES, "bf16", "f16", "f32")
"""What a Linear can be stored as in a GGUF file."""
WEIGHTED = tuple(name for name in BLOCK_TYPES if name != "q8_0")
"""The types whose search ggml can weigh by the importance of each input."""
FALLBACKS: Mapping[str, BlockType] = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""What a width that 256 does not divide gets instead of a type in blocks of 256: llama.cpp's `tensor_type_fallback`."""


@dataclass(frozen=True)
class Block:
    """A block format: `block_size` values stored in `type_size` bytes; `gguf_type` is its number in GGUF files."""

    name: str
    gguf_type: int
    block_size: int
    type_size: int

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` values, a multiple of block_size."""
        return width // self.block_size * self.type_size


_QUANTIZED = (
    Block("q4_0", 2, 32, 18),
    Block("q4_1", 3, 32, 20),
    Block("q5_0", 6, 32, 22),
    Block("q5_1", 7, 32, 24),
    Block("q8_0", 8, 32, 34),
    Block("q4_k", 12, 256, 144),
    Block("q5_k", 13, 256, 176),
    Block("q6_k", 14, 256, 210),
    Block("iq4_nl", 20, 32, 18),
)
BLOCKS: Mapping[str, Block] = {block.name: block for block in _QUANTIZED}
"""The quantized types."""
FLOATS: Mapping[str, Block] = {
    block.name: block for block in (Block("f32", 0, 1, 4), Block("f16", 1, 1, 2), Block("bf16", 30, 1, 2))
}
"""Not quantized: a block is one number."""

INT8 = "int8"
MIXED = "mixed"


def uses_more_bits(block: int, blocks: int) -> bool:
    """llama.cpp's `use_more_bits`: the first and last eighth of the blocks, and every third between."""
    return block < blocks // 8 or block >= 7 * blocks // 8 or (block - blocks // 8) % 3 == 2


@dataclass(frozen=True)
class Raised:
    """A kind of Linear that gets another type than the rest, in the blocks for which `where(block, blocks)` holds."""

    type: BlockType
    reason: str
    where: Callable[[int, int], bool] = lambda _block, _blocks: True


@dataclass(frozen=True)
class SchemePreset:
    """A row of the table above; `file_type` is llama.cpp's number of the mixture (llama.h, `llama_ftype`)."""

    type: BlockType
    file_type: int
    raised: Mapping[str, Raised] = field(default_factory=dict)

    def choose(self, kind: str, block: int, blocks: int) -> tuple[BlockType, str]:
        """The type of a Linear inside block number `block` of `blocks`, and why."""
        rule = self.raised.get(kind)
        if rule is not None and rule.where(block, blocks):
            return rule.type, rule.reason
        return self.type, "inside a block"


def _medium(type_: BlockType, file_type: int, qkv: BlockType) -> SchemePreset:
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
FILE_TYPES: Mapping[str, int] = {
    "f32": 0, "f16": 1, "bf16": 32, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7,
    "q4_k": 14, "q5_k": 16, "q6_k": 18, "iq4_nl": 25,
}  # fmt: skip
"""llama.cpp's number of a file that is mostly of a type."""
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
