"""One random model in every format, and the operations of its steps as torch counts them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ideogram_q8.bench.linear import operations
from ideogram_q8.bench.linear.random_weights import FP8, Pool, RandomBranch, WeightForm
from ideogram_q8.bench.picture import own
from ideogram_q8.bench.picture.scene import StepScene
from ideogram_q8.bench.results import DenoiseSettings
from ideogram_q8.builds.packed import Fp8Weight, GgmlWeight, Int8Weight
from ideogram_q8.model.architecture import IDEOGRAM4, linears, tensor_shapes
from ideogram_q8.numerics import fp8, ggml, int8, rotation
from tests.synthetic import TINY

CPU = torch.device("cpu")
FORMS = [
    WeightForm(FP8),
    WeightForm("w8a8"),
    WeightForm("w8a16"),
    WeightForm("w8a8", 256),
    WeightForm("q8_0"),
    WeightForm("q4_k"),
]


def pool(seed: int = 0) -> Pool:
    return Pool(seed, CPU, torch.float32)


def values(form: WeightForm) -> torch.Tensor:
    packed = pool().draw("a weight", 100, 256, form.scheme, form.rotation)
    match packed:
        case Fp8Weight():
            return fp8.dequantize_per_row(packed.weight, packed.scale).float()
        case Int8Weight():
            found = int8.dequantize(packed.codes, packed.scale)
            return rotation.rotate(found, packed.rotation) if packed.rotation else found
        case GgmlWeight():
            return ggml.decode(packed.data, ggml.BLOCKS[packed.block])
        case _:
            return packed


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_format_holds_the_same_weight(form, quick):
    plain = values(WeightForm("bf16"))
    error = float((values(form) - plain).norm() / plain.norm())
    assert plain.shape == (100, 256) and len(plain.unique(dim=0)) > 50
    assert error == 0 if form.scheme == FP8 else 0 < error < (0.1 if form.scheme == "q4_k" else 0.01)


def test_a_seed_gives_the_same_weights(quick):
    first, again, other = (pool(seed).draw("x", 8, 64, "bf16") for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(pool().draw("x", 8, 64, "bf16"), pool().draw("y", 8, 64, "bf16"))


def test_a_branch_has_every_tensor_of_the_model(quick):
    reader = RandomBranch(pool(), TINY, "conditional", {linear.name: WeightForm("w8a8") for linear in linears(TINY)})
    assert {name: tuple(reader.read(name).shape) for name in reader.names} == tensor_shapes(TINY)
    assert all(reader.packed(linear.name).shape == (linear.out_features, linear.in_features) for linear in linears(TINY))
    assert RandomBranch(pool(), TINY, "conditional", {}).packed("layers.0.attention.o") is None


@torch.no_grad()
def test_operations_are_those_that_torch_counts(quick):
    settings = DenoiseSettings(TINY.num_layers, 64, 32, 5, 5, "float32", 1, 1, 10.0, None, 0, ("unquantized",))
    scene = StepScene(settings, TINY, pool(), 1 << 40)
    built = own.build(scene, "bf16")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        built.step(0)
    assert counter.get_total_flops() == sum(scene.operations.values())


def test_ideogram_4_takes_what_its_shapes_say():
    """70.97 and 79.84 T of products and 10.51 and 13.31 T of attention, with 512 text tokens at 1024x1024."""
    found = operations.of_a_step(IDEOGRAM4, 512, 4096)
    products = sum(found[kind] for kind in operations.BLOCK_PRODUCTS)
    assert products / 1e12 == pytest.approx(70.97 + 79.84, abs=0.01)
    assert found["attention"] / 1e12 == pytest.approx(10.51 + 13.31, abs=0.01)
    assert found["outside"] < 1e-3 * products


def test_shapes_are_those_of_the_model():
    """Every Linear of the model is one of the products, or a part of one."""
    shapes = {(s.outputs, s.inputs) for s in (*operations.block_shapes(TINY), *operations.other_shapes(TINY))}
    for linear in linears(TINY):
        halves = 2 if linear.name.endswith((".w1", ".w3")) else 1
        assert (halves * linear.out_features, linear.in_features) in shapes, linear.name
