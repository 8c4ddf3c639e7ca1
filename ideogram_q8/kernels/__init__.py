"""Linears on packed weights: one signature per operation, a plain-torch definition, back ends chosen by what they refuse."""

from ideogram_q8.kernels.fp8 import fp8_linear
from ideogram_q8.kernels.ggml import expansion_refusal, ggml_linear, row_scale
from ideogram_q8.kernels.int8 import BACKENDS, Backend, Choice, Problem, choose, int8_linear, int8_weight_only_linear

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "Problem",
    "choose",
    "expansion_refusal",
    "fp8_linear",
    "ggml_linear",
    "int8_linear",
    "int8_weight_only_linear",
    "row_scale",
]
