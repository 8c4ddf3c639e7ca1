"""Modules that hold packed weights; those of one input as one product; smoothing folded into the weights before."""
