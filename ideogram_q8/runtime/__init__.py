"""Running a model: weights in memory, layers, kernels, memory plans, text, denoising, decoding."""
