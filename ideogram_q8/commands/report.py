"""`report compare OLD NEW`: regressions beyond noise, for CI. `report table FILE`: the README's table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.report import Report
from ideogram_q8.machine.terminal import say, say_text


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("report", help="compare what `evaluate` wrote with an earlier one, or print it")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    compare = actions.add_parser("compare", help="exit code 1 if NEW is worse than OLD beyond noise, and by enough to matter")
    compare.add_argument("old", type=Path, metavar="OLD", help="report.json")
    compare.add_argument("new", type=Path, metavar="NEW", help="report.json of the same suite and settings")
    compare.set_defaults(verb=run_compare)
    table = actions.add_parser("table", help="the README's table, in Markdown")
    table.add_argument("file", type=Path, metavar="FILE", help="report.json")
    table.set_defaults(verb=run_table)


def run_compare(arguments: argparse.Namespace) -> int:
    """The exit code. Raises IdeogramQ8Error."""
    from ideogram_q8.measure.regression import changes

    found = changes(read(arguments.old), read(arguments.new))
    for finding in found:
        say(f"{'REGRESSION' if finding.regression else 'changed'}: {finding.variant}: {finding.metric}: {finding.text}")
    worse = sum(finding.regression for finding in found)
    say(f"{worse} regressions" if worse != 1 else "1 regression")
    return 1 if worse else 0


def run_table(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    from ideogram_q8.measure.pages.table import markdown

    say_text(markdown(read(arguments.file)))


def read(path: Path) -> Report:
    """Raises RequestError: there is no such file; ArtifactError, which names it: it is no report."""
    if not path.is_file():  # looked at before it is opened, for a FIFO would wait
        raise RequestError(f"{path} is no file; name the report.json that `evaluate` wrote")
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not UTF-8 text; name the report.json that `evaluate` wrote") from None
