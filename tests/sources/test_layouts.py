"""Every layout gives the same official tensors, rounded by its own law; everything that is wrong is listed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.errors import SourceError
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, linears, tensor_shapes
from ideogram_q8.numerics import nf4
from ideogram_q8.sources import open_source
from tests.synthetic import (
    NF4_LEVELS,
    TINY,
    WIDE_HEAD,
    Tensors,
    float_tensors,
    fp8_tensors,
    nf4_tensors,
    split_tensors,
    text_tensor,
    write_source,
)

FILE = "diffusion_pytorch_model.safetensors"
QKV = "layers.1.attention.qkv.weight"


def official(tensors: Tensors) -> Tensors:
    """FP8 as the official code multiplies it."""
    found = {name: value for name, value in tensors.items() if not name.endswith("_scale")}
    for name in found:
        if f"{name}_scale" in tensors:
            found[name] = found[name].bfloat16() * tensors[f"{name}_scale"].bfloat16()[:, None]
    return found


def nf4_reference(tensors: Tensors, name: str) -> torch.Tensor:
    """By the definition, an element at a time: levels[code] * absmax[index // 64] in float32, rounded once."""
    packed = tensors[name].numpy().ravel()
    codes = np.array([half for byte in packed for half in (byte >> 4, byte & 15)])
    absmax, levels = tensors[f"{name}.absmax"].numpy(), NF4_LEVELS.numpy()
    values = [levels[code] * absmax[index // 64] for index, code in enumerate(codes)]
    shape = tensor_shapes(TINY)[name]
    return torch.tensor(np.array(values, dtype=np.float32)).to(torch.bfloat16).view(shape)


def assert_reads(source, expected: Tensors, branch="conditional") -> None:
    reader = source.branch(branch)
    assert set(reader.names) == set(expected)
    for name, value in expected.items():
        found = reader.read(name)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, value), name


def test_split_fp8_is_the_fused(tmp_path):
    fused, split = open_source(write_source(tmp_path / "a")), open_source(write_source(tmp_path / "b", convert=split_tensors))
    assert (fused.branch("conditional").layout, split.branch("conditional").layout) == (
        "BF16 and F8_E4M3, fused",
        "BF16 and F8_E4M3, split",
    )
    for branch in BRANCHES:
        assert_reads(split, {name: fused.branch(branch).read(name) for name in fused.branch(branch).names}, branch)
    for ours, theirs in zip(split.branch("conditional").read_fp8(QKV), fused.branch("conditional").read_fp8(QKV), strict=True):
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("split", [False, True])
def test_floats_are_rounded_once(tmp_path, dtype, split):
    plain = float_tensors(fp8_tensors(TINY, 0), dtype)
    folder = write_source(tmp_path / "s", convert=lambda t: (split_tensors if split else dict)(float_tensors(t, dtype)))
    source = open_source(folder)
    assert_reads(source, {name: value.to(torch.bfloat16) for name, value in plain.items()})
    assert source.branch("conditional").read_fp8(QKV) is None


@pytest.mark.parametrize("split", [False, True])
def test_nf4_is_levels_times_scales(tmp_path, split):
    def convert(tensors: Tensors) -> Tensors:
        return nf4_tensors((split_tensors if split else dict)(float_tensors(tensors)))

    source = open_source(write_source(tmp_path / "s", convert=convert))
    assert source.branch("conditional").layout == f"BF16 and NF4, {'split' if split else 'fused'}"
    fused = nf4_tensors(float_tensors(fp8_tensors(TINY, 0)))
    for name in ("layers.0.attention.qkv.weight", "llm_cond_proj.weight"):  # rows of 256 and, blocks across rows, of 104
        assert torch.equal(source.branch("conditional").read(name), nf4_reference(fused, name))
    assert source.branch("conditional").read_fp8(QKV) is None
    packed, absmax = source.branch("conditional").read_nf4(QKV)
    assert packed.shape == (768, 128) and absmax.shape == (768, 4)
    assert torch.equal(nf4.dequantize(packed, absmax.flatten(), 64).view(768, 256), nf4_reference(fused, QKV))
    assert source.branch("conditional").read_nf4("llm_cond_proj.weight") is None  # blocks across rows
    assert source.branch("conditional").read_nf4("input_proj.bias") is None


@pytest.mark.parametrize("name", [QKV, "llm_cond_proj.weight", "layers.0.attention_norm1.weight"])
@pytest.mark.parametrize(
    "convert", [dict, split_tensors, lambda t: nf4_tensors(float_tensors(t)), lambda t: split_tensors(float_tensors(t))]
)
def test_rows_are_those_of_the_whole(tmp_path, name, convert):
    reader = open_source(write_source(tmp_path / "s", convert=convert)).branch("conditional")
    whole = reader.read(name)
    for start, stop in ((0, 1), (3, 4), (5, len(whole)), (100, 231), (7, 7)):
        assert torch.equal(reader.read_rows(name, start, stop), whole[start:stop])
    with pytest.raises(ValueError, match=f"rows 0 to {len(whole) + 1} of {name}"):
        reader.read_rows(name, 0, len(whole) + 1)


def test_one_scale_for_all_rows_as_comfyui_has_it(tmp_path):
    weights = {f"{linear.name}.weight" for linear in linears(TINY)}

    def convert(tensors: Tensors) -> Tensors:
        for name in weights:
            tensors[f"{name}_scale"] = torch.tensor(0.01)
            tensors[name.replace(".weight", ".comfy_quant")] = text_tensor('{"format": "float8_e4m3fn"}')
        return tensors

    reader = open_source(write_source(tmp_path / "s", convert=convert)).branch("conditional")
    stored = fp8_tensors(TINY, 0)[QKV]
    assert torch.equal(reader.read(QKV), stored.bfloat16() * torch.tensor(0.01).bfloat16())
    codes, scale = reader.read_fp8(QKV)
    assert torch.equal(codes.view(torch.uint8), stored.view(torch.uint8))
    assert torch.equal(scale, torch.full((768,), 0.01))


def comfy(tensors: Tensors, marker: str | None, *, one: bool = False, legacy: bool = False, inputs: bool = False) -> Tensors:
    """The official FP8 tensors as ComfyUI and its neighbours write them."""
    scale, of_inputs = (".scale_weight", ".scale_input") if legacy else (".weight_scale", ".input_scale")
    found = {name: value for name, value in tensors.items() if not name.endswith("_scale")}
    for linear in linears(TINY):
        values = tensors[f"{linear.name}.weight_scale"]
        found[f"{linear.name}{scale}"] = values.amax() if one else values
        if inputs:
            found[f"{linear.name}{of_inputs}"] = torch.tensor(0.5)
        if marker is not None:
            found[f"{linear.name}.comfy_quant"] = text_tensor(marker)
    return found | ({"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)} if legacy else {})


@pytest.mark.parametrize(
    "options",
    [
        {"marker": '{"format": "float8_e4m3fn"}', "one": True, "inputs": True},
        {"marker": '{"format": "float8_e4m3fn", "params": {}}', "one": True},
        {"marker": '{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}', "one": True},
        {"marker": '{"format": "float8_e4m3fn_rowwise"}'},
        {"marker": '{"format": "float8_e4m3fn_rowwise", "params": {}}', "inputs": True},
        {"marker": None, "inputs": True},
        {"marker": None, "one": True, "legacy": True},
        {"marker": None, "one": True, "legacy": True, "inputs": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "transformer."])
def test_neighbouring_layouts_of_fp8_mean_the_same(tmp_path, options, prefix):
    def convert(tensors: Tensors) -> Tensors:
        return {prefix + name: value for name, value in comfy(tensors, **options).items()}

    source, tensors = open_source(write_source(tmp_path / "s", convert=convert)), fp8_tensors(TINY, 0)
    if options.get("one"):
        tensors |= {
            name: torch.full_like(value, value.amax().item()) for name, value in tensors.items() if name.endswith("_scale")
        }
    assert_reads(source, official(tensors))


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ('{"format": "float8_e4m3fn", "params": {"group": 3}}', "comfy_quant is .* expected the format float8_e4m3fn with"),
        ('{"format": "float8_e4m3fn", "transposed": true}', "comfy_quant is .* expected the format float8_e4m3fn with"),
        ('{"format": "int8_tensorwise"}', "is F8_E4M3, and marked as int8_tensorwise"),
        ('{"no": "format"}', "expected a JSON object with a format"),
    ],
)
def test_markers_that_mean_something_else_are_problems(tmp_path, marker, message):
    with pytest.raises(SourceError, match=message):
        open_source(write_source(tmp_path / "s", convert=lambda tensors: comfy(tensors, marker)))


def test_a_former_name_beside_todays_is_refused(tmp_path):
    def convert(tensors: Tensors) -> Tensors:
        return tensors | {"layers.0.attention.o.scale_weight": torch.tensor(1.0)}

    with pytest.raises(SourceError, match="has both layers.0.attention.o.weight_scale and its former name"):
        open_source(write_source(tmp_path / "s", convert=convert))


def test_a_column_of_scales_is_read_as_scales(tmp_path):
    def convert(tensors: Tensors) -> Tensors:
        return {name: value[:, None] if name.endswith("_scale") else value for name, value in tensors.items()}

    source = open_source(write_source(tmp_path / "s", convert=convert))
    assert_reads(source, official(fp8_tensors(TINY, 0)))
    assert source.branch("conditional").read_fp8(QKV)[1].shape == (768,)


@pytest.mark.parametrize("indexed", [False, True])
def test_weights_may_be_in_several_files_of_any_name(tmp_path, indexed):
    folder = write_source(tmp_path / "s")
    for branch in BRANCHES:
        part = folder / COMPONENT_FOLDERS[branch]
        tensors = load_file(part / FILE)
        (part / FILE).unlink()
        shards = {f"weights{i}.safetensors": dict(list(tensors.items())[i::3]) for i in range(3)}
        for name, shard in shards.items():
            save_file(shard, part / name)
        if indexed:
            (part / "stray.safetensors").write_bytes(b"not read")
            index = {"weight_map": {tensor: name for name, shard in shards.items() for tensor in shard}}
            (part / f"{FILE}.index.json").write_text(json.dumps(index), encoding="utf-8")
    source = open_source(folder)
    assert_reads(source, official(fp8_tensors(TINY, 0)))
    assert [path.name for path in source.branch("conditional").files] == [f"weights{i}.safetensors" for i in range(3)]
    assert source.branch("conditional").path == folder / "transformer"
    assert set(source.record().files) == {f"{COMPONENT_FOLDERS[b]}/weights{i}.safetensors" for b in BRANCHES for i in range(3)}
    assert len({source.sha256(branch) for branch in BRANCHES}) == 2


@pytest.mark.parametrize("target", ["../x.safetensors", "/etc/passwd", "a\\b", "a\0b", ""])
def test_an_index_names_files_beside_it(tmp_path, target):
    folder = write_source(tmp_path / "s")
    (folder / "transformer" / f"{FILE}.index.json").write_text(json.dumps({"weight_map": {"a": target}}), encoding="utf-8")
    with pytest.raises(SourceError, match="expected weight_map with the name of a file beside it"):
        open_source(folder)


def write_files(folder: Path, convert=dict, config=WIDE_HEAD) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("one", "two")):
        save_file(convert(fp8_tensors(config, seed)), folder / name)
    return folder / "one", folder / "two"


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("convert", [dict, split_tensors, lambda t: nf4_tensors(float_tensors(t))])
def test_single_files_tell_their_dimensions(tmp_path, prefix, convert):
    one, two = write_files(tmp_path, lambda t: {prefix + name: value for name, value in convert(t).items()})
    source = open_source(one, unconditional=two)
    assert source.config == WIDE_HEAD
    assert (source.location, source.folder, source.branch("unconditional").path) == (str(one), tmp_path, two)
    assert set(source.record().files) == {"transformer/one", "unconditional_transformer/two"}
    tree = open_source(write_source(tmp_path / "tree", WIDE_HEAD, convert=convert))
    for branch in BRANCHES:
        assert_reads(source, {name: tree.branch(branch).read(name) for name in tree.branch(branch).names}, branch)


def test_single_files_of_other_models_need_a_config(tmp_path):
    one, two = write_files(tmp_path, config=TINY)
    with pytest.raises(SourceError, match="has heads of width 32, Ideogram 4 has 256; put the model's config.json beside it"):
        open_source(one, unconditional=two)
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_json()), encoding="utf-8")
    assert open_source(one, unconditional=two).config == TINY
    with pytest.raises(SourceError, match="name the unconditional transformer's file too"):
        open_source(one)


def test_a_tensor_with_a_prefix_and_without_is_refused(tmp_path):
    prefix = "model.diffusion_model."

    def convert(tensors: Tensors) -> Tensors:
        return {prefix + name: value for name, value in tensors.items()} | {"input_proj.bias": torch.zeros(256)}

    one, two = write_files(tmp_path, convert)
    with pytest.raises(SourceError, match=f"one has both input_proj.bias and {prefix}input_proj.bias; expected one of them"):
        open_source(one, unconditional=two)


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(SourceError) as caught:
        open_source(folder)
    assert "\n" not in str(caught.value)
    return caught.value.problems


def test_all_problems_of_both_transformers_are_listed(tmp_path):
    def spoil(tensors: Tensors) -> Tensors:
        del tensors["adaln_proj.bias"]
        del tensors["layers.1.attention.o.weight_scale"]
        tensors["layers.2.attention.o.weight"] = torch.zeros(1)
        tensors["input_proj.bias"] = torch.zeros(3, dtype=torch.bfloat16)
        tensors["llm_cond_norm.weight"] = torch.zeros(104, dtype=torch.int32)
        tensors["adaln_proj.weight_scale"] = torch.zeros(65)
        tensors["input_proj.weight"] = torch.zeros(256, 16, dtype=torch.uint8)
        return tensors

    expected = {
        "llm_cond_norm.weight is I32 [104], expected BF16 or F16 or F32 [104]",
        "input_proj.weight is U8 [256, 16], expected BF16 or F16 or F32 or F8_E4M3 or NF4 [256, 16]",
        "input_proj.bias is BF16 [3], expected BF16 or F16 or F32 [256]",
        "input_proj.weight_scale is unknown",
        "adaln_proj.weight_scale is F32 [65], expected F32 [64] or [64, 1] or [] or [1]",
        "adaln_proj.bias is missing",
        "layers.1.attention.o.weight_scale is missing: layers.1.attention.o.weight is F8_E4M3",
        "layers.2.attention.o.weight is unknown",
    }
    found = problems(write_source(tmp_path / "s", convert=spoil))
    assert len(found) == 2 * len(expected)
    assert set(found) == {f"{branch}: {problem}" for branch in BRANCHES for problem in expected}
    with pytest.raises(SourceError, match=f"and {len(found) - 5} more$"):
        open_source(tmp_path / "s")


def test_split_and_nf4_problems_are_listed(tmp_path):
    def spoil(tensors: Tensors) -> Tensors:
        found = nf4_tensors(split_tensors(float_tensors(tensors)))
        del found["layers.0.attention.to_k.weight"]
        found["layers.0.attention.to_q.weight.absmax"] = torch.zeros(4, dtype=torch.uint8)
        del found["layers.0.attention.to_v.weight.quant_map"]
        found["layers.0.feed_forward.w1.weight.quant_state.bitsandbytes__nf4"] = text_tensor("{")
        found["layers.0.feed_forward.w2.weight.quant_state.bitsandbytes__nf4"] = text_tensor(
            '{"blocksize": 64, "shape": [256, 255]}'
        )
        found["layers.0.feed_forward.w3.weight"] = found["layers.0.feed_forward.w3.weight"][1:]
        return found

    found = " | ".join(problems(write_source(tmp_path / "s", convert=spoil)))
    for expected in (
        "layers.0.attention.to_k.weight is missing",
        "layers.0.attention.to_k.weight.absmax is unknown",
        "layers.0.attention.to_q.weight has scales that are quantized themselves",
        "layers.0.attention.to_v.weight.quant_map is missing",
        "layers.0.feed_forward.w1.weight.quant_state.bitsandbytes__nf4: not valid JSON",
        "layers.0.feed_forward.w2.weight has blocksize 64 and shape [256, 255], expected [256, 256] in blocks of 64 to 4096",
        "layers.0.feed_forward.w3.weight is U8 [32767, 1], expected U8 [32768, 1]",
    ):
        assert f"conditional: {expected}" in found


def test_a_tensor_in_two_files_is_a_problem(tmp_path):
    folder = write_source(tmp_path / "s")
    save_file({"input_proj.bias": torch.zeros(256)}, folder / "transformer" / "extra.safetensors")
    assert problems(folder) == (f"conditional: input_proj.bias is in {FILE} and in extra.safetensors",)


def test_quantized_builds_are_no_source(tmp_path):
    def build(tensors: Tensors) -> Tensors:
        tensors[QKV] = torch.zeros(768, 256, dtype=torch.int8)
        tensors[QKV.replace("weight", "comfy_quant")] = text_tensor('{"format": "int8_tensorwise"}')
        return tensors

    with pytest.raises(SourceError, match=f"is a quantized build already: {QKV} is I8; expected the official FP8 checkpoint"):
        open_source(write_source(tmp_path / "s", convert=build))


def test_other_models_are_no_source(tmp_path):
    with pytest.raises(
        SourceError, match=r"is no Ideogram 4 transformer: it has 1 tensors, none of them embed_image_indicator\.weight"
    ):
        open_source(write_source(tmp_path / "s", convert=lambda _: {"x": torch.zeros(1)}))
