"""Which Linear gets which number format, and why: the recipe, changes to it by name, and as a table."""

from ideogram_q8.recipes.plan import (
    FOLDS,
    FORMAT_VERSION,
    MAX_CHARACTERS,
    NAIVE,
    LayerPlan,
    Part,
    Recipe,
    Smoothing,
    choose,
    fitting,
    fold_of,
    outside_the_blocks,
    problem_of,
    split_stack,
)

__all__ = [
    "FOLDS",
    "FORMAT_VERSION",
    "MAX_CHARACTERS",
    "NAIVE",
    "LayerPlan",
    "Part",
    "Recipe",
    "Smoothing",
    "choose",
    "fitting",
    "fold_of",
    "outside_the_blocks",
    "problem_of",
    "split_stack",
]
