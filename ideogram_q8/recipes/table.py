"""A recipe as a table for people: what every Linear gets, and why."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from ideogram_q8.errors import printable
from ideogram_q8.model.schemes import INT8_SCHEMES
from ideogram_q8.recipes.plan import LayerPlan, Part, Recipe, fold_of, split_stack


def explain(recipe: Recipe) -> str:
    """A table of each part: what every Linear gets, and why. Blocks whose Linears of a kind are treated alike share a row."""
    tables = []
    parts = dict(recipe.parts)
    if len({_identity(part) for part in parts.values()}) == 1:
        parts = {" and ".join(parts): next(iter(parts.values()))}
    for name, part in parts.items():
        tables.append(f"{recipe.variant}, {name}: {_summary(part)}\n\n{_table(part)}")
    return "\n\n".join(tables)


def _identity(part: Part) -> str:
    return json.dumps(asdict(part))


def _summary(part: Part) -> str:
    """`25 w8a8, 12 bf16; 10 smoothed, 4 rotated`."""
    treatments = [_treatment(layer, part) for layer in part.layers]
    schemes = Counter(words[0] for words in treatments)
    extras = Counter(word for words in treatments for word in words[1:])
    text = ", ".join(f"{count} {scheme}" for scheme, count in schemes.most_common())
    return text + "".join(f"; {count} {extra}" for extra, count in extras.most_common())


def _table(part: Part) -> str:
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    last: dict[str, int] = {}
    for layer in part.layers:
        stack, block, kind = split_stack(layer.linear)
        rows.setdefault((stack, kind, " ".join(_treatment(layer, part)), layer.reason), []).append(block)
        if stack:
            last[stack] = max(last.get(stack, 0), int(block))
    table = [("Linear", "count", "scheme", "reason")]
    for (stack, kind, treatment, reason), blocks in rows.items():
        place = f"{stack}{_ranges(blocks, last[stack])}.{kind}" if stack else kind
        table.append((printable(place), str(len(blocks)), treatment, printable(reason)))
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    return "\n".join(f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in table)


def _ranges(blocks: list[str], last: int) -> str:
    """Ascending block numbers as `0-3,7`, or `*` for all of 0 to `last`."""
    runs: list[list[int]] = []
    for block in map(int, blocks):
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    if len(runs) == 1 and (runs[0][0], runs[0][-1]) == (0, last):
        return "*"
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _treatment(layer: LayerPlan, part: Part) -> list[str]:
    """The scheme, then what is done to the values before."""
    words: list[str] = [layer.scheme]
    if layer.scheme in INT8_SCHEMES and fold_of(layer.linear) in {smoothing.fold for smoothing in part.smoothing}:
        words.append("smoothed")
    if layer.rotation:
        words.append(f"rotated by {layer.rotation}")
    if layer.weighted:
        words.append("weighted")
    return words
