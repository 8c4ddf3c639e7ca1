"""From a source to files: what foreign readers find in them, and what is left when it does not work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ideogram_q8.architecture import BRANCHES, linears
from ideogram_q8.artifact import open_artifact
from ideogram_q8.artifact.layout import file_name
from ideogram_q8.checkpoint import open_source
from ideogram_q8.errors import ArtifactError, RequestError, ResourceError
from ideogram_q8.manifest import Manifest
from ideogram_q8.quantization import Progress, quantize
from ideogram_q8.recipe import SCHEMES, choose
from tests.synthetic import TINY, write_source

TRANSFORMER_FILE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source")))


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("built")
    for scheme in SCHEMES:
        quantize(source, choose(scheme, source.config), folder / scheme)
    return {scheme: folder / scheme for scheme in SCHEMES}


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
def test_cancelling_leaves_nothing(source, tmp_path, scheme, error):
    def cancel(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes * 0.6:
            raise error

    with pytest.raises(error):
        quantize(source, choose(scheme, source.config), tmp_path / "out", on_progress=cancel)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize(("value", "scheme"), [(float("nan"), "int8"), (float("inf"), "q8_0"), (1e30, "q4_k")])
def test_weights_that_cannot_be_stored_are_named(tmp_path, value, scheme):
    folder = write_source(tmp_path / "source")
    tensors = load_file(folder / TRANSFORMER_FILE)
    tensors["layers.1.feed_forward.w2.weight_scale"][3] = value
    save_file(tensors, folder / TRANSFORMER_FILE)
    with pytest.raises(ArtifactError, match=r"diffusion_pytorch_model\.safetensors: layers\.1\.feed_forward\.w2\.weight"):
        quantize(open_source(folder), choose(scheme, TINY), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


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


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_leaves_nothing_that_looks_finished(source, tmp_path):
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from ideogram_q8.checkpoint import open_source; from ideogram_q8.quantization import quantize\n"
        "from ideogram_q8.recipe import choose\n"
        "def kill(progress):\n"
        "    if progress.done_bytes * 3 > progress.total_bytes * 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "source = open_source(sys.argv[1])\n"
        "quantize(source, choose('int8', source.config), Path(sys.argv[2]), on_progress=kill)\n"
    )
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(source.folder), str(out)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    (remains,) = tmp_path.iterdir()
    assert remains.name.startswith(".out.partial-")
    assert "manifest.json" not in os.listdir(remains)
    with pytest.raises(ArtifactError):
        open_artifact(out)
    quantize(source, choose("int8", source.config), out)
    assert list(tmp_path.iterdir()) == [out]
