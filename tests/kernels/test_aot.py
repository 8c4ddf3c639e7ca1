"""Machine code for cards that are not there: nothing spills, everything fits, and the inner loop does little but multiply."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="pip install triton (on Linux; tests/requirements.txt has it)")

from ideogram_q8.kernels import triton_ggml, triton_int8
from tests.kernels import aot

MOST_INSTRUCTIONS_PER_IMMA = 2.5
MOST_INSTRUCTIONS_IN_ATTENTION = 8
"""Beside each matrix instruction, which keeps a quarter of a GA10x processor's tensor cores busy for 16 of its cycles: half of them."""
REPORT = json.loads((Path(__file__).parents[2] / "model_cards" / "kernels-machine-code.json").read_text(encoding="utf-8"))
ONE_OF_EACH_PROGRAM = ("q8_0", "q5_1", "q5_k", "q6_k")


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def fits(code: aot.MachineCode, target: int) -> None:
    assert code.stack == code.spills == 0
    assert code.shared <= aot.SHARED_LIMIT[target]
    # a sum or a product of two bfloat16 numbers that is rounded to bfloat16 may be one: it rounds once in any case
    assert not re.search(r"\bfma\.\S*f32", code.ptx), "rounds less often than the definition"
    assert ".ftz" not in code.ptx, "loses denormal scales"


def is_reported(target: int, program: str, code: aot.MachineCode) -> None:
    """By the same compiler; others give other code."""
    if REPORT["triton"] == aot.triton.__version__:
        assert aot.row(f"sm_{target}", program, code) in REPORT["rows"]


@pytest.mark.parametrize("tiles", triton_int8.AMPERE, ids=str)
def test_the_product_on_ampere(tiles):
    code = aot.product(86, tiles)
    fits(code, 86)
    is_reported(86, f"W8A8 product, {tiles.label}", code)
    assert sum(name.startswith("IMMA.16832.S8.S8") for name in code.loop) == code.products > 0
    assert len(code.loop) <= MOST_INSTRUCTIONS_PER_IMMA * code.products


@pytest.mark.parametrize("tiles", triton_int8.HOPPER, ids=str)
def test_the_product_on_hopper(tiles):
    code = aot.product(90, tiles)
    fits(code, 90)
    assert any(name.startswith("IGMMA") for name in code.loop)


@pytest.mark.parametrize(("target", "width"), [(86, 4608), (86, 12288), (90, 12288)])
def test_rows_are_quantized_in_registers(target, width):
    fits(aot.row_quantizer(target, width), target)


@pytest.mark.parametrize("target", [86, 90])
def test_a_block_goes_over_its_tokens_in_registers(target):
    for code in (
        aot.norm_quantizer(target, 4608),
        aot.gate_quantizer(target, 12288),
        aot.residual(target, 4608),
        aot.heads(target, 18, 256),
    ):
        fits(code, target)
        assert "cvt.rn.bf16" in code.ptx, "rounded to nearest even, where the definition rounds"
        assert "div.rn.f32" in code.ptx


@pytest.mark.parametrize("even", [True, False])
def test_attention_on_ampere(even):
    code = aot.attend(86, even)
    is_reported(86, f"attention, {'even' if even else 'any'} tokens", code)
    assert code.stack == code.spills == 0 and code.shared <= aot.SHARED_LIMIT[86]
    assert sum(name.startswith("IMMA.16832.S8.S8") for name in code.loop) == code.products > 0
    assert sum(name.startswith("HMMA.16816.F16") for name in code.loop) == code.float_products > 0
    assert not any(name.startswith("HMMA.16816.F32") for name in code.loop), "sums at half the rate"
    assert len(code.loop) <= MOST_INSTRUCTIONS_IN_ATTENTION * (code.products + code.float_products)


@pytest.mark.parametrize("even", [True, False])
def test_attention_on_hopper(even):
    code = aot.attend(90, even)
    assert code.stack == code.spills == 0 and code.shared <= aot.SHARED_LIMIT[90]
    assert any(name.startswith("IGMMA") for name in code.loop) and any(name.startswith("HGMMA") for name in code.loop)


@pytest.mark.parametrize(("target", "smoothed"), [(86, True), (86, False), (90, True)])
def test_heads_are_turned_and_quantized_in_registers(target, smoothed):
    code = aot.head_quantizer(target, smoothed)
    fits(code, target)
    assert "div.rn.f32" in code.ptx


@pytest.mark.parametrize(
    ("target", "name", "to_codes"),
    [(86, name, True) for name in triton_ggml.EXPANSIONS]
    + [(target, name, False) for target in (86, 90) for name in ONE_OF_EACH_PROGRAM],
)
def test_expansions(target, name, to_codes):
    code = aot.expansion(target, name, to_codes)
    fits(code, target)
    assert ("div.rn.f32" in code.ptx) == to_codes
    assert ("cvt.rn.bf16" in code.ptx) == (not to_codes), "rounded to nearest even"


def test_the_report_has_everything_for_both():
    programs = {target: [row["program"] for row in REPORT["rows"] if row["target"] == target] for target in ("sm_86", "sm_90")}
    for target, tiles in (("sm_86", triton_int8.AMPERE), ("sm_90", triton_int8.HOPPER)):
        assert {f"W8A8 product, {each.label}" for each in tiles} <= set(programs[target])
        for block in triton_ggml.EXPANSIONS:
            assert {f"{block} to bf16", f"{block} to int8"} <= set(programs[target])
    assert not any(row["spills"] or row["stack_bytes"] for row in REPORT["rows"])


def test_a_loop_that_shuffles_and_spills_is_seen():
    """The harness can fail: tiles too large for the registers."""
    code = aot.product(86, triton_int8.Tiles(256, 256, 64, warps=8, stages=2))
    assert code.spills > 0 and code.stack > 0


def test_one_of_each_program_is_compiled_for_both():
    assert {e.program for e in triton_ggml.EXPANSIONS.values()} == {
        triton_ggml.EXPANSIONS[name].program for name in ONE_OF_EACH_PROGRAM
    }
