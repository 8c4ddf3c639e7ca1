"""From a source to files: what foreign readers find in them, and what is left when it does not work."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ideogram_q8 import quantization
from ideogram_q8.architecture import BRANCHES, linears
from ideogram_q8.artifact import open_artifact, sink
from ideogram_q8.artifact.journal import Journal, finished
from ideogram_q8.artifact.layout import file_name
from ideogram_q8.artifact.sink import Sink
from ideogram_q8.checkpoint import open_source
from ideogram_q8.errors import ArtifactError, RequestError, ResourceError, SourceError
from ideogram_q8.folding import fold_points
from ideogram_q8.manifest import Manifest
from ideogram_q8.numerics import smoothing
from ideogram_q8.quantization import Progress, quantize
from ideogram_q8.recipe import SCHEMES, Part, Recipe, Smoothing, choose
from tests.synthetic import TINY, write_source

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_manifest_tells_what_is_there(source, built, scheme):
    manifest = Manifest.from_json((built[scheme] / "manifest.json").read_text(encoding="utf-8"))
    assert {path.name for path in built[scheme].iterdir()} == {"manifest.json"} | {file.path for file in manifest.files}
    assert [file.path for file in manifest.files] == [file_name(scheme, branch) for branch in BRANCHES]
    assert (manifest.variant, manifest.scheme, manifest.source) == (scheme, scheme, source.record())
    assert open_artifact(built[scheme], verify=True).manifest == manifest


def test_names_of_files():
    assert file_name("int8", "conditional") == "ideogram4-int8.safetensors"
    assert file_name("int8", "unconditional") == "ideogram4-unconditional-int8.safetensors"
    assert file_name("q8_0", "conditional") == "ideogram4-Q8_0.gguf"
    assert file_name("q4_k", "unconditional") == "ideogram4-unconditional-Q4_K.gguf"


def test_int8_files_have_the_layout_of_comfyui(source, built):
    path = built["int8"] / "ideogram4-int8.safetensors"
    stored = load_file(path)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["model_type"] == "ideogram4_cond"
    reader = source.branch("conditional")
    int8_linears = [linear.name for linear in linears(TINY) if linear.sees_tokens]
    assert set(stored) == set(reader.names) | {f"{n}.{leaf}" for n in int8_linears for leaf in ("weight_scale", "comfy_quant")}
    for name in int8_linears:
        marker, codes, scale = (stored[f"{name}.{leaf}"] for leaf in ("comfy_quant", "weight", "weight_scale"))
        assert json.loads(bytes(marker.numpy())) == {"format": "int8_tensorwise"}
        assert codes.dtype == torch.int8 and scale.dtype == torch.float32 and scale.shape == (len(codes), 1)
        weight = reader.read(f"{name}.weight").float()
        assert ((codes * scale - weight).abs() <= scale * (0.5 + 2**-15)).all()
    for name in set(reader.names) - {f"{name}.weight" for name in int8_linears}:
        assert torch.equal(stored[name], reader.read(name))


@pytest.mark.parametrize("scheme", ["q8_0", "q4_k"])
def test_gguf_files_are_read_by_gguf_py(source, built, scheme):
    reader = gguf.GGUFReader(built[scheme] / file_name(scheme, "unconditional"))
    stored = {tensor.name: tensor for tensor in reader.tensors}
    assert reader.get_field("general.architecture").contents() == "ideogram4"
    assert reader.get_field("ideogram_q8.branch").contents() == "unconditional"
    view = source.branch("unconditional")
    assert set(stored) == set(view.names)
    kind = gguf.GGMLQuantizationType[scheme.upper()]
    for name in view.names:
        values = view.read(name).float().numpy()
        tensor = stored[name]
        assert tuple(reversed(tensor.shape.tolist())) == values.shape
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        if tensor.tensor_type != kind:
            assert np.array_equal(decoded, values)
        elif scheme == "q8_0":
            assert np.array_equal(tensor.data, gguf.quants.quantize(values, kind))
        else:
            assert np.abs(decoded - values).max() <= (values.max() - values.min()) / 15
    assert sum(tensor.tensor_type == kind for tensor in reader.tensors) == {"q8_0": 12, "q4_k": 10}[scheme]
    assert {t.tensor_type.name for t in reader.tensors if t.tensor_type != kind} == {"F32", "BF16"}


def test_the_order_of_errors_is_that_of_the_bits(source, built):
    """int8 and Q8_0 are close to the source, Q4_K an order of magnitude further."""
    name = "layers.0.feed_forward.w1"
    weight = source.branch("conditional").read(f"{name}.weight").float()
    stored = load_file(built["int8"] / "ideogram4-int8.safetensors")
    decoded = {"int8": stored[f"{name}.weight"] * stored[f"{name}.weight_scale"]}
    for scheme in ("q8_0", "q4_k"):
        tensors = gguf.GGUFReader(built[scheme] / file_name(scheme, "conditional")).tensors
        tensor = next(tensor for tensor in tensors if tensor.name == f"{name}.weight")
        decoded[scheme] = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    error = {scheme: ((values - weight).norm() / weight.norm()).item() for scheme, values in decoded.items()}
    assert error["q8_0"] < error["int8"] < 0.01 < error["q4_k"] < 0.1


@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_equal_sources_give_equal_files(built, tmp_path, scheme):
    other = open_source(write_source(tmp_path / "elsewhere"))
    manifest = quantize(other, choose(scheme, other.config), tmp_path / "out")
    assert manifest.artifact_sha256 == open_artifact(built[scheme]).manifest.artifact_sha256


def test_progress_runs_from_the_first_tensor_to_the_last(source, tmp_path):
    seen: list[Progress] = []
    quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=seen.append)
    assert [progress.name for progress in seen] == 2 * list(source.branch("conditional").names)
    done = [progress.done_bytes for progress in seen]
    assert done == sorted(done) and done[-1] == seen[-1].total_bytes
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert 0 <= size - done[-1] < 100_000
    assert seen[0].seconds <= seen[-1].seconds


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


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_cancelling_at_once_leaves_nothing(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        quantize(source, choose("int8", source.config), tmp_path / "out", on_progress=cancel_at_half_of_a_branch)
    assert list(tmp_path.iterdir()) == []


def cancel_at_half_of_a_branch(progress: Progress) -> None:
    if progress.done_bytes * 4 > progress.total_bytes:
        raise KeyboardInterrupt


def begin(source, out: Path, scheme: str = "int8") -> Path:
    """Stops a run after a branch and a half; returns its hidden folder."""

    def cancel(progress: Progress) -> None:
        if progress.done_bytes * 4 > progress.total_bytes * 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, choose(scheme, source.config), out, on_progress=cancel)
    return out.with_name(f".{out.name}.partial")


def resumed_bytes(source, out: Path, scheme: str = "int8") -> int:
    seen: list[Progress] = []
    quantize(source, choose(scheme, source.config), out, on_progress=seen.append)
    return seen[-1].resumed_bytes


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
        patch.setitem(quantization._MODEL_TYPES, "conditional", "of another release")
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
        patch.setattr(Path, "rename", interrupted)
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


def test_pieces_do_not_show_in_the_files(source, tmp_path, monkeypatch):
    """Smoothed, rotated and protected Linears, computed whole and in rows."""
    recipe = mixed_recipe()
    whole = quantize(source, recipe, tmp_path / "whole")
    monkeypatch.setattr("ideogram_q8.quantization._PIECE", 20_000)
    assert quantize(source, recipe, tmp_path / "pieces").artifact_sha256 == whole.artifact_sha256


def mixed_recipe() -> Recipe:
    naive = choose("int8", TINY)
    generator = torch.Generator().manual_seed(0)
    smoothings = [
        Smoothing(fold, smoothing.encode(torch.randint(-5, 6, (point.width,), generator=generator).to(torch.int8)))
        for fold, point in fold_points(TINY).items()
    ]
    treated = {
        "layers.0.attention.o": {"rotation": 256},
        "layers.1.feed_forward.w2": {"scheme": "bf16"},
        "layers.1.feed_forward.w1": {"scheme": "w8a16"},
    }
    layers = tuple(replace(layer, **treated.get(layer.linear, {})) for layer in naive.parts["conditional"].layers)
    return replace(naive, policy="mixed", parts=dict.fromkeys(BRANCHES, Part(layers, tuple(smoothings))))


def test_int8_is_what_its_definition_says(source, built):
    """Written down once more, without the package: official decoding, amax / 127, nearest even."""
    stored = load_file(built["int8"] / "ideogram4-int8.safetensors")
    official = load_file(source.branch("conditional").path)
    for linear in linears(TINY):
        if not linear.sees_tokens:
            continue
        codes, scale = official[f"{linear.name}.weight"], official[f"{linear.name}.weight_scale"]
        weight = (codes.to(torch.bfloat16) * scale.to(torch.bfloat16)[:, None]).float()
        step = weight.abs().amax(1, keepdim=True) / 127
        assert torch.equal(stored[f"{linear.name}.weight_scale"], step)
        assert torch.equal(stored[f"{linear.name}.weight"], (weight / step).round().to(torch.int8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_device_does_not_show_in_the_files(source, built, tmp_path, scheme):
    quantize(source, choose(scheme, source.config), tmp_path / "out", device="cuda")
    assert files_of(tmp_path / "out") == files_of(built[scheme])


def test_bad_requests_leave_nothing(source, tmp_path):
    with pytest.raises(RequestError, match="unknown scheme 'int9'"):
        quantize(source, choose("int9", source.config), tmp_path / "out")
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds 'notes'"):
        quantize(source, choose("int8", source.config), tmp_path, overwrite=True)
    with pytest.raises(ArtifactError, match="is not part of an artifact"):
        quantize(source, choose("int8", source.config), source.folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_overwriting_replaces_another_scheme(source, tmp_path):
    quantize(source, choose("int8", source.config), tmp_path / "out")
    with pytest.raises(ArtifactError, match="use --overwrite"):
        quantize(source, choose("q8_0", source.config), tmp_path / "out")
    quantize(source, choose("q8_0", source.config), tmp_path / "out", overwrite=True)
    assert open_artifact(tmp_path / "out").variant == "q8_0"
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("value", "scheme", "error"),
    [(float("nan"), "int8", SourceError), (float("inf"), "q8_0", SourceError), (1e30, "q4_k", ArtifactError)],
)
def test_weights_that_cannot_be_stored_are_named(tmp_path, value, scheme, error):
    folder = write_source(tmp_path / "source")
    path = folder / "unconditional_transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["layers.1.feed_forward.w2.weight_scale"][3] = value
    save_file(tensors, path)
    with pytest.raises(error, match=r"diffusion_pytorch_model\.safetensors: layers\.1\.feed_forward\.w2\.weight"):
        quantize(open_source(folder), choose(scheme, TINY), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("change", "message"),
    [(Path.unlink, "cannot be read any more: .*; check the disk"), (os.utime, "has changed since it was opened")],
)
def test_a_source_that_changes_is_not_hashed_as_if_it_had_not(tmp_path, change, message):
    folder = write_source(tmp_path / "source")
    source, path = open_source(folder), folder / "transformer" / "diffusion_pytorch_model.safetensors"
    change(path)
    with pytest.raises(SourceError, match=message):
        source.record()


def test_a_source_that_cannot_be_hashed_is_not_the_fault_of_the_output(source, tmp_path, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("ideogram_q8.checkpoint.source.sha256_of", refuse)
    opened = open_source(source.folder)
    with pytest.raises(SourceError, match=r"safetensors cannot be read any more: Permission denied; check the disk"):
        quantize(opened, choose("int8", opened.config), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_found_before_writing(source, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(ResourceError, match=r"out needs 0\.00\d GB of disk, 0\.001 GB are free; free some"):
        quantize(source, choose("int8", source.config), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file size")
@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_a_disk_that_fills_up_leaves_nothing(source, tmp_path, scheme):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(ResourceError, match="cannot write into"):
            quantize(source, choose(scheme, source.config), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_on_the_way_keeps_what_is_finished(source, built, tmp_path, monkeypatch):
    synced = []

    def full_at_last(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ideogram_q8.artifact.sink.SYNC_BYTES", 100_000)
    monkeypatch.setattr("ideogram_q8.artifact.sink.fsync", full_at_last)
    with pytest.raises(
        ResourceError, match="cannot write into .*: the disk is full; .*; what is finished is kept in .*partial: "
    ):
        quantize(source, choose("int8", source.config), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    monkeypatch.undo()
    assert resumed_bytes(source, tmp_path / "out") > 0
    assert files_of(tmp_path / "out") == files_of(built["int8"])


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs to become another user")
def test_a_folder_that_cannot_be_written_is_one_line():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        source = open_source(write_source(Path(folder) / "source"))
        os.seteuid(65534)
        try:
            for out in (Path(folder) / "out", Path(folder) / "deep" / "out"):
                with pytest.raises(
                    ResourceError, match="cannot write into .*: permission denied; make room or name another folder"
                ):
                    quantize(source, choose("int8", source.config), out)
        finally:
            os.seteuid(0)
        assert os.listdir(folder) == ["source"]


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
