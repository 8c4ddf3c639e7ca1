"""`recipe explain FILE`: what each Linear gets, and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from ideogram_q8.commands.quantize import read_recipe


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("recipe", help="say what a recipe does to each layer, and why")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    explain = actions.add_parser("explain", help="print a recipe as a table")
    explain.add_argument("recipe", type=Path, metavar="FILE", help="a recipe.json")
    explain.set_defaults(verb=run_explain)


def run_explain(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from ideogram_q8.recipe import explain

    print(explain(read_recipe(arguments.recipe)))
