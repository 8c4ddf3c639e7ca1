"""Recipes that follow from statistics of the inputs: which Linears are smoothed, rotated or protected, and why.

Each policy is one function in a module of its name; it reads weights one at a time and writes nothing. `make` beside it is what its
row in `ideogram_q8.recipes.policies` names.
"""
