"""What int8 compute costs the pictures of GGUF builds: the tables of reports, on one page.

    python -m ideogram_q8.evaluation.compute --report REPORT.json [...] --out FILE.md

The reports are what `evaluate --int8-compute` wrote: one against the original, and for each build one against itself as it computes
otherwise, so that the figures of int8 compute do not drown in those of the build.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ideogram_q8.artifact.folder import write_text
from ideogram_q8.errors import RequestError
from ideogram_q8.evaluation import table
from ideogram_q8.kernels.int8 import FEWEST_ROWS
from ideogram_q8.report import Report
from ideogram_q8.schemes import title

_INTRODUCTION = (
    "`--compute int8` expands ggml's blocks to int8 codes with a scale a row, and quantizes activations a row at a time: W8A8 from the "
    f"same file. Products of fewer than {FEWEST_ROWS} rows, such as modulation, stay as they are."
)


def markdown(reports: Sequence[Report]) -> str:
    """A section for each report, by its reference."""
    sections = [line for report in reports for line in _section(report)]
    return "\n".join(["# int8 compute", "", _INTRODUCTION, *sections]) + "\n"


def _section(report: Report) -> list[str]:
    shown = title(report.settings.reference)
    limits = "The pocket's Linears have 256 and 512 inputs: Ideogram 4's own were not measured."
    return ["", f"## Against {shown}", "", f"{table.conditions(report)} {limits}", "", *table.markdown(report).splitlines()]


def main(arguments: Sequence[str]) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m ideogram_q8.evaluation.compute")
    parser.add_argument("--report", type=Path, nargs="+", required=True, help="what `evaluate --int8-compute` wrote")
    parser.add_argument("--out", type=Path, metavar="MD", required=True, help="the page, in a folder that is there")
    given = parser.parse_args(arguments)
    if not given.out.parent.is_dir():
        raise RequestError(f"--out is {given.out}; expected a file in a folder that is there")
    write_text(given.out, markdown([Report.from_json(path.read_text(encoding="utf-8")) for path in given.report]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
