"""The definitions of all number formats, as pure functions of tensors: int8, fp8 and ggml blocks.

Kernels and file readers elsewhere are checked against these. The results are the same on any device and for any number of
threads: no reduction here depends on its order.
"""
