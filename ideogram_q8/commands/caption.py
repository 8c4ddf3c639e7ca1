"""`caption FILE|TEXT`: what is wrong with a caption and where, and the caption mended."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ideogram_q8.captions import Reading, understand
from ideogram_q8.commands.caption_text import mending, read_caption
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.terminal import say, say_json
from ideogram_q8.model.architecture import parse_size

CODES = {"sound": 0, "mended": 1, "refused": 2}


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the verb."""
    parser = verbs.add_parser("caption", help="check a caption and mend it")
    parser.add_argument("caption", metavar="FILE|TEXT", help="a JSON caption, what holds one, or a plain sentence")
    parser.add_argument("--size", metavar="WxH", help="of the picture, where boxes are in its pixels and not in thousandths")
    parser.add_argument("--mend", action="store_true", help="print the mended caption; without it only what would be mended")
    parser.add_argument("--json", action="store_true", help="one JSON object: verdict, caption, findings")
    parser.set_defaults(verb=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 for a sound caption, 1 where something was or can be mended, 2 for what is no caption.

    Raises:
        RequestError: the size, or the file.
    """
    size = None if arguments.size is None else parse_size(arguments.size)
    if size is not None and min(size) < 1:
        raise RequestError(f"--size is {arguments.size}; expected the picture's width and height in pixels")
    reading = understand(read_caption(arguments.caption), size)
    if arguments.json:
        say_json(json.dumps(_data(reading, arguments.mend), ensure_ascii=True))
        return CODES[reading.verdict]
    for finding in reading.findings:
        label = f"{finding.kind}: " if finding.kind in ("fault", "warning") else ""
        say(f"{label}{finding}", to="err")
    caption = _shown(reading, arguments.mend)
    if caption is not None:
        say(caption)
    elif reading.caption is not None:
        say(f"it can be mended: {mending(arguments.caption, arguments.size)}", to="err")
    if reading.caption is None:
        say(f"error: {'not a caption' if reading.given is None else 'some faults are left to its writer'}", to="err")
    return CODES[reading.verdict]


def _shown(reading: Reading, mend: bool) -> str | None:
    """The canonical caption; one that has faults only mended, and only where that was wanted."""
    return reading.caption if mend or not reading.done else None


def _data(reading: Reading, mend: bool) -> dict[str, object]:
    findings = [asdict(finding) for finding in reading.findings]
    return {"verdict": reading.verdict, "caption": _shown(reading, mend), "findings": findings}
