"""GGUF files: the types that a recipe plans, in gguf-py's eyes; weighted encoding, shards and headers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from ideogram_q8.builds.layout import Packaging, file_name
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.architecture import BRANCHES, linears
from ideogram_q8.model.schemes import BLOCKS, PRESETS
from ideogram_q8.numerics import ggml
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.recipes.rules import apply_rules, weigh
from tests.policies.example import statistics_of
from tests.quantizing import begin, files_of, resumed_bytes
from tests.synthetic import TINY


def opened(folder: Path, scheme: str, branch: str) -> gguf.GGUFReader:
    return gguf.GGUFReader(folder / file_name(scheme, branch))


@pytest.mark.parametrize("scheme", PRESETS)
def test_gguf_py_finds_what_the_recipe_plans(source, built, scheme):
    reader = opened(built[scheme], scheme, "unconditional")
    stored = {tensor.name: tensor for tensor in reader.tensors}
    view = source.branch("unconditional")
    plans = {f"{plan.linear}.weight": plan.scheme for plan in choose(scheme, TINY).parts["unconditional"].layers}
    assert set(stored) == set(view.names)
    for name in view.names:
        values, tensor = view.read(name).float(), stored[name]
        assert tuple(reversed(tensor.shape.tolist())) == values.shape
        assert tensor.tensor_type.name.lower() == plans.get(name, "f32")
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(values.shape)
        if plans.get(name) in BLOCKS:
            assert np.array_equal(tensor.data, ggml.encode(values, ggml.BLOCKS[plans[name]]).numpy())
            assert np.abs(decoded - values.numpy()).max() <= (values.max() - values.min()) / 15
        else:
            assert np.array_equal(decoded, values.numpy())


@pytest.mark.parametrize("scheme", PRESETS)
def test_the_header_says_what_the_file_is(source, built, scheme):
    found = {key: field.contents() for key, field in opened(built[scheme], scheme, "unconditional").fields.items()}
    assert found["general.architecture"] == "ideogram4"
    assert found["general.file_type"] == gguf.LlamaFileType[f"MOSTLY_{scheme.upper()}"]
    assert (found["general.quantization_version"], found["general.alignment"]) == (2, 32)
    assert (found["general.name"], found["ideogram_q8.branch"]) == ("Tiny unconditional", "unconditional")
    assert found["ideogram_q8.source_sha256"] == source.sha256("unconditional")
    assert found["ideogram_q8.recipe_sha256"] == choose(scheme, TINY).sha256
    assert not any(str(source.folder) in str(value) for value in found.values())


def all_types() -> Recipe:
    """Every type that a file can hold, one Linear each."""
    names = [linear.name for linear in linears(TINY) if linear.in_features == 256]
    types = (*BLOCKS, "bf16", "f16", "f32")
    return apply_rules(choose("q4_k_s", TINY), list(zip(names, types, strict=False)), TINY)


def test_all_types_stand_in_one_file(source, tmp_path):
    quantize(source, all_types(), tmp_path / "out")
    tensors = {tensor.name: tensor for tensor in opened(tmp_path / "out", "mixed", "conditional").tensors}
    for plan in all_types().parts["conditional"].layers:
        tensor, values = tensors[f"{plan.linear}.weight"], source.branch("conditional").read(f"{plan.linear}.weight")
        assert tensor.tensor_type.name.lower() == plan.scheme
        expected = ggml.encode(values.float(), {**ggml.BLOCKS, **ggml.FLOATS}[plan.scheme])
        assert np.array_equal(tensor.data.view(np.uint8).ravel(), expected.numpy().ravel())


def test_another_architecture_changes_the_header_alone(source, built, tmp_path):
    quantize(source, choose("q8_0", TINY), tmp_path / "out", packaging=Packaging(architecture="ideogram"))
    ours, theirs = (opened(folder, "q8_0", "conditional") for folder in (tmp_path / "out", built["q8_0"]))
    assert ours.get_field("general.architecture").contents() == "ideogram"
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours.tensors, theirs.tensors, strict=True))


def test_int8_files_have_no_packaging(source, tmp_path):
    with pytest.raises(RequestError, match="are for GGUF files, the scheme is int8"):
        quantize(source, choose("int8", TINY), tmp_path / "out", packaging=Packaging(split_bytes=1))


# ---- importance ----


@pytest.fixture(scope="module")
def importance(source) -> Importance:
    return Importance(statistics_of(source, {}), "5" * 64)


def test_the_search_is_weighted_where_the_recipe_says(source, importance, tmp_path):
    recipe = weigh(choose("q4_k_s", TINY), importance)
    quantize(source, recipe, tmp_path / "out", importance=importance)
    for branch in BRANCHES:
        reader = opened(tmp_path / "out", "q4_k_s", branch)
        assert reader.get_field("ideogram_q8.importance_sha256").contents() == importance.sha256
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        weighted = [plan for plan in recipe.parts[branch].layers if plan.weighted]
        assert len(weighted) == 12
        for plan in weighted:
            values = source.branch(branch).read(f"{plan.linear}.weight").float()
            expected = ggml.encode(values, ggml.BLOCKS[plan.scheme], importance.of(branch, plan.linear))
            assert np.array_equal(tensors[f"{plan.linear}.weight"].data, expected.numpy())


def test_a_weighted_recipe_comes_back_and_builds_the_same(source, importance, tmp_path):
    recipe = weigh(choose("q4_k_m", TINY), importance)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert weigh(recipe, importance) == recipe
    assert (recipe.variant, recipe.stats_sha256) == ("q4_k_m-imatrix", importance.sha256)
    first = quantize(source, recipe, tmp_path / "first", importance=importance)
    second = quantize(source, Recipe.from_json(recipe.to_json()), tmp_path / "second", importance=importance)
    assert first == second and files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_statistics_are_those_that_the_recipe_names(source, importance, tmp_path):
    recipe = weigh(choose("q4_k_s", TINY), importance)
    with pytest.raises(RequestError, match=r"weighs by statistics of sha256 5+, none are given; give --importance"):
        quantize(source, recipe, tmp_path / "out")
    other = replace(importance, sha256="6" * 64)
    with pytest.raises(RequestError, match=r"those given have 6+"):
        quantize(source, recipe, tmp_path / "out", importance=other)
    with pytest.raises(RequestError, match="was made with statistics of sha256 5"):
        weigh(recipe, other)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_weighted_is_refused(importance):
    with pytest.raises(RequestError, match="q8_0 has no Linear that importance can weigh"):
        weigh(choose("q8_0", TINY), importance)
    recipe = weigh(choose("q4_k_s", TINY), importance)
    with pytest.raises(ArtifactError, match="are weighted, but stats_sha256 names no statistics"):
        replace(recipe, stats_sha256=None).check(TINY)


# ---- shards ----

SPLIT = Packaging(split_bytes=100_000)


@pytest.fixture(scope="module")
def sharded(source, tmp_path_factory) -> tuple[Path, Manifest]:
    """A build in shards; not to be changed."""
    folder = tmp_path_factory.mktemp("sharded") / "out"
    return folder, quantize(source, choose("q4_k_s", TINY), folder, packaging=SPLIT)


def test_shards_hold_the_tensors_of_the_whole(built, sharded):
    folder, manifest = sharded
    assert Manifest.from_json(manifest.to_json()) == manifest
    whole = opened(built["q4_k_s"], "q4_k_s", "conditional")
    shards = manifest.shards("conditional")
    names = [f"ideogram4-Q4_K_S-{i:05d}-of-{len(shards):05d}.gguf" for i in range(1, len(shards) + 1)]
    assert len(shards) > 2 and [shard.path for shard in shards] == names
    readers = [gguf.GGUFReader(folder / name) for name in names]
    stored = [(t.name, t.data.tobytes()) for reader in readers for t in reader.tensors]
    assert stored == [(t.name, t.data.tobytes()) for t in whole.tensors]
    for number, (reader, shard) in enumerate(zip(readers, shards, strict=True)):
        found = [reader.get_field(f"split.{key}").contents() for key in ("no", "count", "tensors.count")]
        assert found == [number, len(shards), len(whole.tensors)]
        assert ("general.architecture" in reader.fields) == (number == 0)
        assert [record.name for record in manifest.tensors[shard.path]] == [tensor.name for tensor in reader.tensors]
        assert shard.size <= SPLIT.split_bytes or len(reader.tensors) == 1


def test_a_split_that_all_fits_into_is_one_file(source, built, tmp_path):
    quantize(source, choose("q8_0", TINY), tmp_path / "out", packaging=Packaging(split_bytes=1 << 30))
    assert files_of(tmp_path / "out") == files_of(built["q8_0"])


def test_a_split_run_is_gone_on_with_and_replaced(source, built, sharded, tmp_path):
    begin(source, tmp_path / "out", "q4_k_s", SPLIT)
    assert resumed_bytes(source, tmp_path / "out", "q4_k_s", SPLIT) > 0
    assert files_of(tmp_path / "out") == files_of(sharded[0])
    quantize(source, choose("q8_0", TINY), tmp_path / "out", overwrite=True)
    assert files_of(tmp_path / "out") == files_of(built["q8_0"])


def test_remains_of_another_split_are_not_gone_on_with(source, built, tmp_path):
    begin(source, tmp_path / "out", "q4_k_s", SPLIT)
    assert resumed_bytes(source, tmp_path / "out", "q4_k_s") == 0
    assert files_of(tmp_path / "out") == files_of(built["q4_k_s"])


def test_shards_of_a_manifest_are_all_there(sharded):
    manifest = sharded[1]
    lost = manifest.files[1:]
    text = replace(manifest, files=lost, tensors={file.path: manifest.tensors[file.path] for file in lost}).to_json()
    with pytest.raises(ArtifactError, match="expected one for each of conditional, unconditional"):
        Manifest.from_json(text)


def test_values_that_float16_cannot_hold_are_named(source, tmp_path, monkeypatch):
    view = source.branch("conditional")
    huge = torch.full(view.shape("layers.0.attention.o.weight"), 1e6, dtype=torch.bfloat16)
    read = type(view).read_rows
    monkeypatch.setattr(
        type(view),
        "read_rows",
        lambda self, name, *rows: huge if name.endswith("0.attention.o.weight") else read(self, name, *rows),
    )
    recipe = apply_rules(choose("q8_0", TINY), [("layers.0.attention.o", "f16")], TINY)
    with pytest.raises(ArtifactError, match=r"layers\.0\.attention\.o\.weight reaches .*; f16 is float16"):
        quantize(source, recipe, tmp_path / "out")
