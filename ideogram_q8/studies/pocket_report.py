"""The pocket's full report: builds its variants, measures them in several processes at once, and merges.

    python -m ideogram_q8.studies.pocket_report --out DIR [--shards 2] [--count 300] [--preset default-20]

Runs the command line's own verbs, so that each line it prints can be repeated by hand. What is there already is kept: the same command
goes on after it was stopped; delete a folder of DIR/builds to build it again. Each process computes with one thread, and beside the
others, so the times that it reports rank nothing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import FILE_NAME
from ideogram_q8.recipes.policies import POLICIES

SOURCE = "pocket"
RECIPES = ("paper", "convrot", "auto")
"""Policies of W8A8 beside the naive one."""
GGUF = ("q8_0", "q4_k_s")
WEIGHTED = ("q4_k_s",)
"""Also built with importance."""
Command = list[str]


def builds(folder: Path) -> Iterator[tuple[Path, Command]]:
    """What is to be there and the verb that makes it, in order; all under `folder`."""
    stats = folder / "stats.safetensors"
    yield stats, ["calibrate", SOURCE, "--captions", "pocket", "--out", str(stats)]
    yield _build(folder, "int8", "--scheme", "int8")
    for policy in RECIPES:
        recipe = folder / f"{policy}.json"
        statistics = ["--stats", str(stats)] if POLICIES[policy].needs_statistics else []
        yield recipe, ["recipe", "make", SOURCE, "--policy", policy, *statistics, "--out", str(recipe)]
        yield _build(folder, f"int8-{policy}", "--recipe", str(recipe))
    for scheme in GGUF:
        yield _build(folder, scheme, "--scheme", scheme)
        if scheme in WEIGHTED:
            yield _build(folder, f"{scheme}-imatrix", "--scheme", scheme, "--importance", str(stats))


def _build(folder: Path, name: str, *how: str) -> tuple[Path, Command]:
    return folder / name / FILE_NAME, ["quantize", SOURCE, *how, "--out", str(folder / name)]


def evaluations(folder: Path, out: Path, count: int, preset: str, shards: int) -> list[Command]:
    """One verb a shard."""
    made = [file.parent for file, _ in builds(folder) if file.name == FILE_NAME]
    places = [f"{place.name}={place}" for place in made]
    common = ["evaluate", "--reference", SOURCE, "--candidate", *places, "--suite", "pocket", "--count", str(count)]
    return [[*common, "--preset", preset, "--out", str(out), "--shard", f"{i}/{shards}"] for i in range(1, shards + 1)]


def run(commands: Sequence[Command]) -> None:
    """All at once, each in a process with one thread.

    Raises:
        RequestError: one of them failed; what it printed says why.
    """
    processes = []
    for command in commands:
        print(f"$ python -m ideogram_q8 {shlex.join(command)}", flush=True)
        line = [sys.executable, "-m", "ideogram_q8", *command]
        processes.append(subprocess.Popen(line, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RequestError(f"{max(codes, key=abs)} was the exit code; what it printed says why")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 after a refusal, as everywhere."""
    parser = argparse.ArgumentParser(description="Measure every variant of the pocket.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for builds, pictures and the report")
    parser.add_argument("--shards", type=int, default=2, metavar="N", help="processes at once (default 2)")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="captions (default 300)")
    parser.add_argument("--preset", default="default-20")
    parser.add_argument("--plan", action="store_true", help="print what would be run")
    arguments = parser.parse_args(argv)
    folder, out = arguments.out / "builds", arguments.out / "report"
    waiting = [command for file, command in builds(folder) if not file.exists()]
    shards = evaluations(folder, out, arguments.count, arguments.preset, arguments.shards)
    merge = ["evaluate", "merge", str(out), "--out", str(out)]
    if arguments.plan:
        print("\n".join(shlex.join(["python", "-m", "ideogram_q8", *command]) for command in [*waiting, *shards, merge]))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for command in waiting:
            run([command])
        run(shards)
        run([merge])
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
