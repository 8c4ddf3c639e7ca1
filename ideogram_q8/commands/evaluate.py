"""`evaluate --reference A --candidate B [C ...] --suite NAME --out DIR`, and `evaluate merge DIR ... --out DIR`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import AUTO, DEVICES, DTYPES, check_device, default_dtype
from ideogram_q8.machine.terminal import say, say_text
from ideogram_q8.model.architecture import PRESETS, parse_size

PRESET = "default-20"
PLACE = "`pocket`, a folder that quantize wrote, a checkpoint or a Hub id; NAME=PLACE names the variant"


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("evaluate", help="measure variants against a reference, and write a report")
    parser.add_argument("--reference", metavar="PLACE", help=PLACE)
    parser.add_argument("--candidate", metavar="PLACE", nargs="+", action="extend", default=[], help="what to compare with it")
    parser.add_argument(
        "--int8-attention",
        metavar="PLACE",
        nargs="+",
        action="extend",
        default=[],
        help="what else to compare with it, computing attention in int8 as `generate --attention int8` does",
    )
    parser.add_argument(
        "--int8-compute",
        metavar="PLACE",
        nargs="+",
        action="extend",
        default=[],
        help="GGUF builds to compare with it, computing as `generate --compute int8` does",
    )
    parser.add_argument("--suite", metavar="NAME", default="pocket", help="the captions (default: pocket)")
    parser.add_argument("--count", type=int, metavar="N", help="the suite's first N captions only")
    parser.add_argument("--preset", choices=list(PRESETS), default=PRESET, help=f"default {PRESET}")
    parser.add_argument("--size", metavar="WxH", help="pixels (default: the model's own)")
    parser.add_argument("--device", choices=(AUTO, *DEVICES), default="cpu", help="where the models run (default cpu)")
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: float32 on cpu, bfloat16 on cuda)")
    parser.add_argument(
        "--shard", metavar="I/N", default="1/1", help="this process measures every N-th caption; merge afterwards"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="for pictures, measurements, report.json and report.html")
    parser.set_defaults(verb=run)
    actions = parser.add_subparsers(metavar="merge")
    merge = actions.add_parser("merge", help="a report from the measurements of all shards")
    merge.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="what the shards had as --out; one folder may hold all"
    )
    merge.add_argument("--out", type=Path, metavar="DIR", required=True, help="for report.json, report.html and contact sheets")
    merge.set_defaults(verb=run_merge)


def run(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    given = {
        "reference": arguments.reference,
        "candidate": arguments.candidate or arguments.int8_attention or arguments.int8_compute,
        "out": arguments.out,
    }
    for option, value in given.items():
        if not value:
            raise RequestError(f"--{option} is missing; see `evaluate --help`")
    if arguments.count is not None and arguments.count < 1:
        raise RequestError(f"--count is {arguments.count}; expected at least 1")
    size = None if arguments.size is None else parse_size(arguments.size)
    device = check_device(arguments.device)

    from ideogram_q8.captions import suite
    from ideogram_q8.measure.judging import Judges
    from ideogram_q8.measure.measurement import EvaluationJob, Shard, measure
    from ideogram_q8.measure.places import open_places
    from ideogram_q8.model.architecture import check_size

    shard, captions = Shard.parse(arguments.shard), suite.get(arguments.suite)
    if arguments.count is not None:
        captions = captions.first(arguments.count)
    places = open_places(arguments.reference, arguments.candidate, arguments.int8_attention, arguments.int8_compute)
    size = size or places[0].traits.default_size
    check_size(*size, places[0].traits)
    dtype = arguments.dtype or default_dtype(device)
    job = EvaluationJob(places, captions, arguments.preset, size, device, dtype, arguments.out, shard)
    judges = Judges.made("cpu")  # not on the card: their 9.5 GB are missing there when other processes paint
    for metric, reason in judges.missing.items():
        say(f"not measured: {metric}: {reason}")
    measure(job, judges)
    if shard.count == 1:
        publish([arguments.out], arguments.out)
    else:
        say(f"{arguments.out}: shard {arguments.shard} is measured; `evaluate merge` makes the report of all of them")


def run_merge(arguments: argparse.Namespace) -> None:
    """Raises IdeogramQ8Error."""
    publish(arguments.folders, arguments.out)


def publish(folders: Sequence[Path], out: Path) -> None:
    """The report of what is in `folders`, its page and its contact sheets, into `out`."""
    from ideogram_q8.builds.folder import disk_errors
    from ideogram_q8.formats import whole_file
    from ideogram_q8.formats.report import FILE_NAME
    from ideogram_q8.measure.compare import assemble, gather
    from ideogram_q8.measure.pages.page import page
    from ideogram_q8.measure.pages.sheets import contact_sheets
    from ideogram_q8.measure.pages.table import terminal

    whole = gather(folders)
    result = assemble(whole)
    sheets = contact_sheets(whole)
    with disk_errors(out):
        (out / "sheets").mkdir(parents=True, exist_ok=True)
        for name, content in sheets.items():
            whole_file.write_bytes(out / "sheets" / f"{name}.webp", content)
    for name, text in ((FILE_NAME, result.to_json()), ("report.html", page(result, sheets))):
        with disk_errors(out):
            whole_file.write_text(out / name, text)
    say_text(terminal(result))
    say(f"{out / FILE_NAME}, {out / 'report.html'}")
