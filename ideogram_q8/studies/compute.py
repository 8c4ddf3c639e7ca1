"""What int8 compute costs the pictures of GGUF builds: the table of a report, on a page.

    python -m ideogram_q8.studies.compute --report REPORT.json --out FILE.md

The report is what `evaluate --int8-compute` wrote, with the same builds among its candidates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ideogram_q8.builds.folder import write_text
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.report import Report
from ideogram_q8.measure.pages import table
from ideogram_q8.runtime.kernels.linear.int8 import FEWEST_ROWS

_INTRODUCTION = (
    "`--compute int8` expands ggml's blocks to int8 codes with a scale a row, and quantizes activations a row at a time: W8A8 from the "
    f"same file. Products of fewer than {FEWEST_ROWS} rows, such as modulation, stay as they are."
)
_LIMITS = "The pocket's Linears have 256 and 512 inputs: Ideogram 4's own were not measured."


def markdown(report: Report) -> str:
    """What int8 compute is, and the report's pictures."""
    return f"# int8 compute\n\n{_INTRODUCTION}\n\n{table.conditions(report)} {_LIMITS}\n\n{table.markdown(report)}"


def main(arguments: Sequence[str]) -> int:
    """Writes the page."""
    parser = argparse.ArgumentParser(prog="python -m ideogram_q8.studies.compute")
    parser.add_argument("--report", type=Path, required=True, help="what `evaluate --int8-compute` wrote")
    parser.add_argument("--out", type=Path, metavar="MD", required=True, help="the page, in a folder that is there")
    given = parser.parse_args(arguments)
    if not given.out.parent.is_dir():
        raise RequestError(f"--out is {given.out}; expected a file in a folder that is there")
    write_text(given.out, markdown(Report.from_json(given.report.read_text(encoding="utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
