"""Matrix products on packed weights: one signature per operation, a plain-torch reference, back ends chosen by what they refuse."""

from ideogram_q8.kernels.int8 import BACKENDS, Backend, Choice, Problem, choose, int8_linear

__all__ = ["BACKENDS", "Backend", "Choice", "Problem", "choose", "int8_linear"]
