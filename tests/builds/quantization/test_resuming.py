"""Runs that are stopped: what they leave, and that the next one goes on from it or begins afresh."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from concurrent.futures import wait
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ideogram_q8.builds import open_artifact, sink
from ideogram_q8.builds.journal import Journal, finished
from ideogram_q8.builds.quantization import Progress, part, quantize
from ideogram_q8.builds.sink import Sink
from ideogram_q8.errors import ArtifactError, ResourceError
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.quantizing import begin, files_of, resumed_bytes
from tests.synthetic import TINY, write_source

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_a_cancelled_run_is_gone_on_with(source, built, tmp_path, scheme, error):
    first: list[Progress] = []

    def cancel(progress: Progress) -> None:
        first.append(progress)
        if progress.done_bytes > progress.total_bytes * 0.6:
            raise error

    recipe, out = choose(scheme, source.config), tmp_path / "out"
    with pytest.raises(error):
        quantize(source, recipe, out, on_progress=cancel)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    second: list[Progress] = []
    quantize(source, recipe, out, on_progress=second.append)
    assert 0 < len(second) < len(first) + len(second) - len(source.branch("conditional").names)
    assert second[0].resumed_bytes >= second[0].total_bytes // 2 and second[-1].done_bytes == second[-1].total_bytes
    assert files_of(out) == files_of(built[scheme])
    assert list(tmp_path.iterdir()) == [out]


def test_cancelling_at_once_leaves_nothing(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=cancel_at_half_of_a_branch)
    assert list(tmp_path.iterdir()) == []


def cancel_at_half_of_a_branch(progress: Progress) -> None:
    if progress.done_bytes * 4 > progress.total_bytes:
        raise KeyboardInterrupt


def test_remains_of_another_recipe_are_not_gone_on_with(source, built, tmp_path):
    begin(source, tmp_path / "out", "q8_0")
    assert resumed_bytes(source, tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def test_remains_of_a_changed_source_are_not_gone_on_with(tmp_path):
    folder = write_source(tmp_path / "source")
    begin(open_source(folder), tmp_path / "out")
    changed = open_source(write_source(folder, seed=1))
    assert resumed_bytes(changed, tmp_path / "out") == 0
    quantize(changed, choose("int8", TINY), tmp_path / "afresh")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "afresh")


FOREIGN_LINES = {
    "garbage": b"garbage\n",
    "unknown file": b"other.safetensors\tinput_proj.weight\t00000000\n",
    "unknown tensor": b"ideogram4-int8.safetensors\tother.weight\t00000000\n",
    "no text": b"\xff\n",
}


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "journal", *FOREIGN_LINES])
def test_damaged_remains_are_not_gone_on_with(source, built, tmp_path, damage):
    partial = begin(source, tmp_path / "out")
    weights = partial / "ideogram4-int8.safetensors"
    if damage == "flip":
        name, _ = list(finished(partial, journal_key(partial))[weights.name].items())[-1]
        stored = bytearray(weights.read_bytes())
        with safe_open(built["int8"] / weights.name, framework="pt") as file:
            last = bytes(file.get_tensor(name).view(torch.uint8).flatten().numpy())
        stored[stored.index(last)] ^= 1
        weights.write_bytes(stored)
    elif damage == "truncate":
        os.truncate(weights, 1000)
    elif damage == "remove":
        weights.unlink()
    elif damage == "journal":
        (partial / "journal").unlink()
    else:
        key, lines = (partial / "journal").read_bytes().split(b"\n", 1)
        (partial / "journal").write_bytes(key + b"\n" + FOREIGN_LINES[damage] + lines)
    assert resumed_bytes(source, tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def test_remains_of_other_code_are_not_gone_on_with(source, built, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(part._MODEL_TYPES, "conditional", "of another release")
        begin(source, tmp_path / "out")
    assert resumed_bytes(source, tmp_path / "out") == 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def journal_key(partial: Path) -> str:
    return (partial / "journal").read_text(encoding="utf-8").split("\n")[0]


def test_a_torn_line_of_the_journal_is_done_again(source, built, tmp_path):
    partial = begin(source, tmp_path / "out")
    with (partial / "journal").open("a", encoding="utf-8") as file:
        file.write("ideogram4-unconditional-int8.safetensors\tinput_proj.wei")
    assert resumed_bytes(source, tmp_path / "out") > 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def test_a_run_stopped_before_the_last_rename_is_gone_on_with(source, built, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ideogram_q8.builds.folder._replace", interrupted)
        quantize(source, choose("int8", source.config), tmp_path / "out")
    manifest = quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=pytest.fail)
    assert manifest == open_artifact(built["int8"]).manifest
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def interrupted(*_) -> None:
    raise KeyboardInterrupt


def test_a_journal_left_in_an_artifact_is_passed_over(source, built, tmp_path):
    """As by a kill right after the last rename."""
    out = Path(shutil.copytree(built["q8_0"], tmp_path / "out"))
    (out / "journal").write_text("", encoding="utf-8")
    assert open_artifact(out, verify=True).variant == "q8_0"
    quantize(source, choose("int8", source.config), out, overwrite=True)
    assert files_of(out) == files_of(built["int8"])


def test_the_journal_vouches_for_nothing_behind_a_failed_write(tmp_path, monkeypatch):
    monkeypatch.setattr(sink, "SYNC_BYTES", 1)
    path, size = tmp_path / "weights", 100
    tensors = {name: torch.full((size,), value, dtype=torch.uint8) for value, name in enumerate("abcd", 1)}
    with pytest.raises(OSError, match="full"), Journal(tmp_path, "key") as notes, Sink(path, 4 * size, notes) as writer:
        writer._file = FullOnce(writer._file, 2)
        for index, (name, tensor) in enumerate(tensors.items()):
            writer.write([(index * size, tensor)])
            writer.end_tensor(name)
        wait(writer._queue)
        writer.flush()
    vouched = finished(tmp_path, "key").get(path.name, {})
    assert vouched.keys() <= {"a"}
    assert all(zlib.crc32(path.read_bytes()[:size]) == check for check in vouched.values())


class FullOnce:
    """A file on a disk that is full at one write, and no more at the next."""

    def __init__(self, file, number):
        self._file, self._left = file, number

    def write(self, data):
        self._left -= 1
        if self._left == 0:
            raise OSError(errno.ENOSPC, "full")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_two_runs_into_one_folder_do_not_meet(source, built, tmp_path):
    def second(progress: Progress) -> None:
        with pytest.raises(ArtifactError, match="another run is writing .*out; wait until it ends, or name another folder"):
            quantize(source, choose("q8_0", source.config), tmp_path / "out", overwrite=True)

    quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=second)
    assert files_of(tmp_path / "out") == files_of(built["int8"])


def test_a_disk_that_fills_up_on_the_way_keeps_what_is_finished(source, built, tmp_path, monkeypatch):
    synced = []

    def full_at_last(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ideogram_q8.builds.sink.SYNC_BYTES", 100_000)
    monkeypatch.setattr("ideogram_q8.builds.sink.fsync", full_at_last)
    with pytest.raises(
        ResourceError, match="cannot write into .*: the disk is full; .*; what is finished is kept in .*partial: "
    ):
        quantize(source, choose("int8", source.config), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    monkeypatch.undo()
    assert resumed_bytes(source, tmp_path / "out") > 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_run_killed_anywhere_leaves_an_artifact_or_none_and_is_gone_on_with(source, tmp_path):
    command = [sys.executable, "-m", "tests.killed_runs", str(source.folder), str(tmp_path), "3"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(kills) == 10
    for kill in kills:
        assert kill["left"] in ("older", "new", "nothing"), kill
        assert kill["same"] and kill["hidden"] == [], kill
    assert all(kill["code"] == -signal.SIGKILL for kill in kills[:5])
    assert any(kill["resumed"] for kill in kills)
