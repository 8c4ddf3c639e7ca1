"""What a measured error is: the error of the layer that runs, and blind to whatever changes nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ideogram_q8.builds import layout, open_artifact
from ideogram_q8.builds.packed import Int8Weight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.numerics import int8, smoothing
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.policies.measurement import Probe, check_statistics, decibels, in_words, recipe_errors
from ideogram_q8.policies.paper import paper
from ideogram_q8.recipes import LayerPlan, choose
from ideogram_q8.runtime.layers.packed import from_packed
from ideogram_q8.sources import open_source
from tests.policies.example import statistics_of
from tests.synthetic import write_source

PLAIN, WEIGHTS_ONLY = LayerPlan("x", "w8a8", 0, ""), LayerPlan("x", "w8a16", 0, "")
ROTATED, KEPT = LayerPlan("x", "w8a8", 256, ""), LayerPlan("x", "bf16", 0, "")
SEEDS = st.integers(0, 2**32 - 1)


def random_linear(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(40, 256, generator=generator).bfloat16(), torch.randn(16, 256, generator=generator)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_source(write_source(tmp_path_factory.mktemp("source")))


def test_kept_is_exact():
    assert Probe(*random_linear(0)).error(KEPT) == 0
    assert (in_words(0.0), in_words(0.001), decibels(0.0)) == ("exact", "30.0 dB", None)


@given(seed=SEEDS)
@settings(max_examples=10)
def test_the_error_is_within_the_bound_of_the_codes(seed):
    """Each weight is off by half its row's scale at most, each input by half its token's: |dy| <= what these add up to."""
    weight, inputs = random_linear(seed)
    _, w_scale = int8.quantize_per_channel(weight)
    _, x_scale = int8.quantize_per_token(inputs)
    half_w, half_x = w_scale.T.double() / 2, x_scale.double() / 2
    bound = inputs.abs().double().sum(1, keepdim=True) * half_w + half_x * weight.abs().double().sum(1)
    bound += inputs.shape[1] * half_w * half_x
    exact = inputs.double() @ weight.double().T
    worst = (bound.square().sum(1) / exact.square().sum(1)).mean().item()
    assert 0 < Probe(weight, inputs).error(WEIGHTS_ONLY) < Probe(weight, inputs).error(PLAIN) <= worst


@given(seed=SEEDS)
@settings(max_examples=10)
@pytest.mark.parametrize("plan", [PLAIN, ROTATED], ids=["plain", "rotated"])
def test_symmetries(plan, seed):
    """Signs, powers of two and the order of outputs are nothing to int8."""
    weight, inputs = random_linear(seed)
    generator = torch.Generator().manual_seed(seed)
    error = Probe(weight, inputs).error(plan)
    assert Probe(-weight, inputs).error(plan) == error
    assert Probe(weight, -inputs).error(plan) == error
    assert Probe(weight * 2.0**-5, inputs * 2.0**7).error(plan) == error
    rows, tokens = torch.randperm(len(weight), generator=generator), torch.randperm(len(inputs), generator=generator)
    assert Probe(weight[rows], inputs[tokens]).error(plan) == pytest.approx(error, rel=1e-4)
    powers = torch.randint(-15, 16, (len(weight),), generator=generator).to(torch.int8)
    scaled, plain = (outputs(w, plan, inputs) for w in (smoothing.scale_rows(weight, powers), weight))
    assert torch.equal(scaled, plain * 2.0 ** powers.float())


def outputs(weight: torch.Tensor, plan: LayerPlan, inputs: torch.Tensor) -> torch.Tensor:
    codes, scale, _ = layout.pack(weight, plan, "bf16")
    return from_packed(Int8Weight(codes, scale, plan.rotation))(inputs)


def test_smoothing_helps_a_channel_that_is_large_in_the_inputs_alone():
    weight, inputs = random_linear(1)
    inputs[:, 3] *= 500
    exponents = smoothing.exponents(inputs.abs().amax(0), weight.abs().amax(0).float(), 0.5)
    probe = Probe(weight, inputs)
    assert probe.error(PLAIN, exponents) < probe.error(PLAIN) / 10


def test_zeros_say_nothing():
    weight, inputs = random_linear(2)
    error = Probe(weight, inputs).error(PLAIN)
    assert Probe(weight, torch.cat([inputs, torch.zeros(5, 256)])).error(PLAIN) == error
    assert Probe(torch.zeros_like(weight), inputs).error(PLAIN) == 0
    assert Probe(weight, torch.zeros(5, 256)).error(PLAIN) == 0


def test_a_recipes_errors_are_those_of_its_artifact(source, tmp_path):
    statistics = statistics_of(source, {"layers.0.feed_forward.w2": 100.0})
    recipe = paper(statistics, source, protect=3)
    quantize(source, recipe, tmp_path / "out")
    stored = open_artifact(tmp_path / "out").branch("conditional")
    found = recipe_errors(recipe, statistics, source)["conditional"]
    kept = {plan.linear for plan in recipe.parts["conditional"].layers if plan.scheme == "bf16"}
    assert {name for name, error in found.items() if error == 0} == kept & found.keys()
    name = "layers.1.feed_forward.w1"
    packed = stored.packed(name)
    entry = statistics.get("conditional", name)
    texts = {item.fold: item.exponents for item in recipe.parts["conditional"].smoothing}
    exponents = smoothing.decode(texts["layers.1.ffn_norm1"], entry.sample.shape[1])
    exact = entry.sample @ source.branch("conditional").read(f"{name}.weight").float().T
    noise = from_packed(packed)(smoothing.scale_columns(entry.sample, -exponents)) - exact
    assert found[name] == pytest.approx((noise.square().sum(1) / exact.square().sum(1)).mean().item(), rel=1e-5)


def test_what_never_ran_is_not_measured(source):
    statistics = statistics_of(source, {})
    entries = {key: entry for key, entry in statistics.entries.items() if key != ("unconditional", "llm_cond_proj")}
    found = recipe_errors(choose("int8", source.config), dataclasses.replace(statistics, entries=entries), source)
    assert "llm_cond_proj" in found["conditional"] and "llm_cond_proj" not in found["unconditional"]


def test_statistics_of_other_weights_are_refused(source, tmp_path):
    other = open_source(write_source(tmp_path / "other", seed=1))
    check_statistics(statistics_of(source, {}), source)
    with pytest.raises(
        ArtifactError, match=r"statistics are of .*, whose weights differ from those of .*; calibrate this source"
    ):
        check_statistics(statistics_of(other, {}), source)


def test_weights_that_are_not_finite_are_named(tmp_path):
    folder = write_source(tmp_path / "source")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    statistics = statistics_of(open_source(folder), {})
    tensors["layers.1.attention.o.weight_scale"][3] = float("nan")
    save_file(tensors, path)
    broken = open_source(folder)
    with pytest.raises(SourceError, match=r"layers\.1\.attention\.o\.weight"):
        paper(statistics, broken)


def test_convrot_rotates_every_block_linear_that_it_can(source):
    recipe = convrot(source.config)
    plans = recipe.parts["unconditional"].layers
    recipe.check(source.config)
    assert {plan.rotation for plan in plans if plan.linear.endswith(("qkv", ".o", "w1", "w2", "w3"))} == {256}
    assert {(plan.scheme, plan.rotation) for plan in plans if plan.linear.endswith("s.0.adaln_modulation")} == {("w8a8", 0)}
    assert sum(plan.scheme == "bf16" for plan in plans) == 7
