"""Linears on packed weights and what lies between: one signature per operation, a plain-torch definition, back ends by what they refuse."""

from ideogram_q8.runtime.kernels.attention.paths import int8_attention
from ideogram_q8.runtime.kernels.choosing.choice import Choice
from ideogram_q8.runtime.kernels.linear.ggml import expansion_refusal, ggml_linear, row_scale
from ideogram_q8.runtime.kernels.linear.int8 import BACKENDS, Backend, Problem, choose, int8_linear, int8_weight_only_linear
from ideogram_q8.runtime.kernels.linear.products import BlockProduct, block_products
from ideogram_q8.runtime.kernels.linear.prologue import Prologue
from ideogram_q8.runtime.kernels.linear.weight_only import fp8_linear, nf4_linear
from ideogram_q8.runtime.kernels.rows.fused import add_normalized, guided_step, place_heads
from ideogram_q8.runtime.kernels.rows.fused import refusal as norms_refusal

__all__ = [
    "BACKENDS",
    "Backend",
    "BlockProduct",
    "Choice",
    "Problem",
    "Prologue",
    "add_normalized",
    "block_products",
    "choose",
    "expansion_refusal",
    "fp8_linear",
    "ggml_linear",
    "guided_step",
    "int8_attention",
    "int8_linear",
    "int8_weight_only_linear",
    "nf4_linear",
    "norms_refusal",
    "place_heads",
    "row_scale",
]
