"""Opening artifacts: what is read back, and every way a folder can be wrong."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ideogram_q8.builds import layout, open_artifact, reader
from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight
from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, linears
from ideogram_q8.model.schemes import NAMED_SCHEMES
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.recipes import choose
from tests.synthetic import TINY


@pytest.fixture(params=NAMED_SCHEMES)
def copy(request, built, tmp_path) -> Path:
    """A folder of each scheme, to be spoiled."""
    return Path(shutil.copytree(built[request.param], tmp_path / request.param))


def weight_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != "manifest.json")


def refusal(folder: Path, verify: bool = False) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(folder, verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize("scheme", NAMED_SCHEMES)
def test_plain_tensors_are_the_sources(source, built, scheme):
    artifact = open_artifact(built[scheme], verify=True)
    assert (artifact.variant, artifact.traits, artifact.config) == (scheme, source.traits, source.config)
    for branch in BRANCHES:
        view, reader = artifact.branch(branch), source.branch(branch)
        assert view.names == reader.names
        packed = {f"{linear.name}.weight" for linear in linears(TINY) if view.packed(linear.name) is not None}
        assert len(packed) == (10 if scheme == "int8" else 12)
        for name in set(view.names) - packed:
            assert torch.equal(view.read(name).float(), reader.read(name).float())
        for name in packed:
            with pytest.raises(ArtifactError, match="read it with packed"):
                view.read(name)


def test_int8_linears_are_those_of_the_definition(source, built):
    view = open_artifact(built["int8"]).branch("unconditional")
    for linear in filter(lambda linear: linear.sees_tokens, linears(TINY)):
        packed = view.packed(linear.name)
        codes, scale = int8.quantize_per_channel(source.branch("unconditional").read(f"{linear.name}.weight"))
        assert isinstance(packed, Int8Weight) and packed.shape == (linear.out_features, linear.in_features)
        assert torch.equal(packed.codes, codes) and torch.equal(packed.scale, scale)


@pytest.mark.parametrize(("scheme", "block"), [("q8_0", "q8_0"), ("q4_k_s", "q4_k")])
def test_blocks_are_those_of_the_definition(source, built, scheme, block):
    view = open_artifact(built[scheme]).branch("conditional")
    packed = view.packed("layers.1.attention.qkv")
    weight = source.branch("conditional").read("layers.1.attention.qkv.weight")
    assert isinstance(packed, GgmlWeight) and packed.shape == tuple(weight.shape) and packed.block == block
    assert torch.equal(packed.data, ggml.encode(weight.float(), ggml.BLOCKS[block]))


def test_rows_of_packed_weights_are_rows_of_the_weight(built):
    stored = open_artifact(built["q8_0"]).branch("conditional").packed("layers.0.attention.qkv")
    part = stored.row_slice(256, 512)
    assert part.shape == (256, 256) and torch.equal(part.data, stored.data[256:512])
    assert part.data.untyped_storage().data_ptr() == stored.data.untyped_storage().data_ptr()
    int8_part = Int8Weight(torch.ones(6, 2, dtype=torch.int8), torch.arange(6.0)[:, None]).row_slice(2, 4)
    assert int8_part.shape == (2, 2) and int8_part.scale.tolist() == [[2], [3]]
    fp8_part = Fp8Weight(torch.ones(6, 2).to(torch.float8_e4m3fn), torch.arange(6.0)).row_slice(2, 4)
    assert fp8_part.shape == (2, 2) and fp8_part.scale.tolist() == [2, 3]


def test_sizes_at_full_scale_are_the_published_ones():
    """Tensor data of one branch of Ideogram 4, computed from shapes by others (int8: 170 Linears, without markers)."""
    records = [r for part in layout.stored_tensors(IDEOGRAM4, choose("int8", IDEOGRAM4), "conditional").values() for r in part]
    sizes = [layout.container("int8").stored_bytes(r) for r in records if not r.name.endswith("comfy_quant")]
    assert sum(sizes) == 9_901_717_760
    records = [r for part in layout.stored_tensors(IDEOGRAM4, choose("q8_0", IDEOGRAM4), "conditional").values() for r in part]
    as_bf16 = [layout.container("q8_0").stored_bytes(r) // (2 if r.scheme == "f32" else 1) for r in records]
    assert sum(as_bf16) == 10_135_890_176


def test_a_missing_manifest_or_file_is_named(copy):
    path = weight_files(copy)[0]
    path.unlink()
    assert f"no file {path}, which manifest.json lists" in refusal(copy)
    (copy / "manifest.json").unlink()
    assert "manifest.json: No such file or directory; expected a folder written by" in refusal(copy)
    (copy / "manifest.json").write_bytes(b"\xff")
    assert "not a text file" in refusal(copy)
    assert "No such file" in refusal(copy / "nowhere")


@pytest.mark.parametrize("lost", [1, 1000])
def test_truncated_files_are_refused(copy, lost):
    path = weight_files(copy)[1]
    size = path.stat().st_size
    os.truncate(path, size - lost)
    assert f"has {size - lost} bytes, manifest.json says {size}" in refusal(copy)


@pytest.mark.parametrize("size", [0, 3, 40, 1000, 100_000, -8])
def test_truncated_files_are_refused_though_the_manifest_agrees(copy, size):
    path = weight_files(copy)[0]
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)

    def agree(value):
        next(file for file in value["files"] if file["path"] == path.name)["size"] = path.stat().st_size

    edit_manifest(copy, agree)
    assert "is not a whole" in refusal(copy)


def test_other_files_of_the_same_size_are_refused(copy):
    for path in weight_files(copy):
        path.write_bytes(bytes(path.stat().st_size))
    assert "is not a whole" in refusal(copy)


def test_swapped_branches_are_refused(copy):
    first, second = weight_files(copy)
    aside = copy / "aside"
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    edit_manifest(copy, lambda value: [file.update(size=(copy / file["path"]).stat().st_size) for file in value["files"]])
    assert "holds the branch" in refusal(copy)


def test_renamed_tensors_are_refused(copy):
    path = weight_files(copy)[0]
    path.write_bytes(path.read_bytes().replace(b"adaln_proj.bias", b"adaln_proj.bIas", 1))
    assert "tensor adaln_proj.bIas is unknown" in refusal(copy)


def test_mislabelled_types_are_refused(copy):
    path = weight_files(copy)[0]
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        spoiled = data.replace(b'"dtype":"I8"', b'"dtype":"U8"', 1)
    else:
        start = data.index(b"adaln_proj.weight") + len(b"adaln_proj.weight") + 4 + 2 * 8
        assert data[start] == 30  # BF16
        spoiled = data[:start] + bytes([1]) + data[start + 1 :]  # F16
    path.write_bytes(spoiled)
    assert "expected I8" in refusal(copy) or "is F16 [64, 256], expected BF16 [64, 256]" in refusal(copy)


def test_changed_bytes_are_found_by_their_hash(copy):
    path = weight_files(copy)[0]
    with path.open("rb+") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    open_artifact(copy)
    assert f"{path} has sha256" in refusal(copy, verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda value: value.update(scheme="q9_0"),
            "scheme is 'q9_0', expected one of int8, q8_0",
        ),
        (lambda value: value["transformer"].update(num_layers=0), "transformer: config.json: num_layers is 0"),
        (lambda value: value["transformer"].update(num_layers=1), "layers.1.adaln_modulation is no Linear of this model"),
        (lambda value: value["recipe"]["parts"]["conditional"].update(layers=[]), "adaln_proj has no plan"),
        (lambda value: value["recipe"]["parts"]["conditional"].pop("layers"), "key 'layers' is missing"),
        (lambda value: value["recipe"]["parts"].pop("conditional"), "parts are unconditional; expected"),
        (lambda value: value["recipe"]["parts"]["conditional"]["layers"].reverse(), "planned twice or out of order"),
        (lambda value: value["recipe"]["parts"]["conditional"]["layers"][7].update(scheme="bf16"), "its recipe gives"),
        (lambda value: value["recipe"].update(format_version=9), "format_version is 9, expected 2"),
        (lambda value: value["recipe"].update(policy="../x"), "policy is '../x'"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(copy, change, message):
    edit_manifest(copy, change)
    assert message in refusal(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["transformer"].update(num_layers=50_000_000),
        lambda value: value["transformer"].update(intermediate_size=1 << 60),
        lambda value: value["transformer"].update(mrope_section=[1 << 60, 0, 0]),
    ],
)
def test_manifests_of_absurd_models_are_refused_at_once(copy, change):
    edit_manifest(copy, change)
    assert "manifest.json: transformer: config.json: " in refusal(copy)


def test_a_huge_manifest_is_not_read_to_its_end(copy, monkeypatch):
    monkeypatch.setattr(reader, "_MANIFEST_CHARACTERS", 1000)
    assert "manifest.json is longer than a manifest can be" in refusal(copy)


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_refused_or_read(copy, data):
    """In the header of a weight file or anywhere in the manifest: never another error than ours."""
    path = data.draw(st.sampled_from(sorted(copy.iterdir())))
    before = path.read_bytes()
    damaged = bytearray(before)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, min(len(damaged), 20_000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        with contextlib.suppress(ArtifactError):
            branch = open_artifact(copy).branch("conditional")
            for linear in linears(TINY):
                branch.packed(linear.name)
    finally:
        path.write_bytes(before)


def test_other_kinds_of_int8_are_refused(built, tmp_path):
    folder = Path(shutil.copytree(built["int8"], tmp_path / "int8"))
    for path in weight_files(folder):
        path.write_bytes(path.read_bytes().replace(b"int8_tensorwise", b"int8_rotatedOnX"))
    view = open_artifact(folder).branch("conditional")
    with pytest.raises(ArtifactError, match=r"comfy_quant is .*int8_rotatedOnX"):
        view.packed("layers.0.attention.o")
