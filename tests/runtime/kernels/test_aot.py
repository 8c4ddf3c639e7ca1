"""Machine code for cards that are not there: nothing spills, everything fits, and the inner loop does little but multiply."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="pip install triton (on Linux; tests/requirements.txt has it)")

from ideogram_q8.runtime.kernels.linear import triton_ggml, triton_int8
from tests.runtime.kernels import aot

pytestmark = pytest.mark.slow

MOST_INSTRUCTIONS_PER_IMMA = 2.5
MOST_INSTRUCTIONS_IN_ATTENTION = 8
"""Beside each matrix instruction, which keeps a quarter of a GA10x processor's tensor cores busy for 16 of its cycles: half of them."""
REPORT = json.loads((Path(__file__).parents[3] / "model_cards" / "kernels-machine-code.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def rounds_as_defined(code: aot.MachineCode) -> None:
    # a sum or a product of two bfloat16 numbers that is rounded to bfloat16 may be one: it rounds once in any case
    assert not re.search(r"\bfma\.\S*f32", code.ptx), "rounds less often than the definition"
    assert ".ftz" not in code.ptx, "loses denormal scales"


def the_product(code: aot.MachineCode, target: int) -> None:
    rounds_as_defined(code)
    if target == 90:
        assert any(name.startswith("IGMMA") for name in code.loop)
        return
    assert sum(name.startswith("IMMA.16832.S8.S8") for name in code.loop) == code.products > 0
    assert len(code.loop) <= MOST_INSTRUCTIONS_PER_IMMA * code.products


def codes_of_rows(code: aot.MachineCode, target: int) -> None:
    rounds_as_defined(code)
    assert "div.rn.f32" in code.ptx


def rows_between_products(code: aot.MachineCode, target: int) -> None:
    codes_of_rows(code, target)
    assert "cvt.rn.bf16" in code.ptx, "rounded to nearest even, where the definition rounds"


def the_step(code: aot.MachineCode, target: int) -> None:
    assert re.search(r"\bfma\.rn\.f32", code.ptx), "torch's kernels fuse these products and sums"
    assert not re.search(r"\b(mul|fma)\.(?!rn)\S*f32|\.ftz", code.ptx)


def attention(code: aot.MachineCode, target: int) -> None:
    if target == 90:
        assert any(name.startswith("IGMMA") for name in code.loop) and any(name.startswith("HGMMA") for name in code.loop)
        return
    assert sum(name.startswith("IMMA.16832.S8.S8") for name in code.loop) == code.products > 0
    assert sum(name.startswith("HMMA.16816.F16") for name in code.loop) == code.float_products > 0
    assert not any(name.startswith("HMMA.16816.F32") for name in code.loop), "sums at half the rate"
    assert len(code.loop) <= MOST_INSTRUCTIONS_IN_ATTENTION * (code.products + code.float_products)


def blocks_to_bfloat16(code: aot.MachineCode, target: int) -> None:
    rounds_as_defined(code)
    assert "div.rn.f32" not in code.ptx
    assert "cvt.rn.bf16" in code.ptx, "rounded to nearest even"


def blocks_to_codes(code: aot.MachineCode, target: int) -> None:
    """Two fused operations a value, which correct its quotient, and a division for some values of a row, not for each."""
    assert not re.search(r"\bfma\.(?!rn)\S*f32|\.ftz|cvt\.rn\.bf16", code.ptx)
    corrections, divisions = (len(re.findall(what, code.ptx)) for what in (r"\bfma\.rn\.f32", r"\bdiv\.rn\.f32"))
    assert corrections == 2 * aot.VALUES_A_THREAD
    assert divisions <= corrections / 8


LAWS = {
    "product": the_product,
    "codes": codes_of_rows,
    "rows": rows_between_products,
    "step": the_step,
    "attention": attention,
    "expansion to bf16": blocks_to_bfloat16,
    "expansion to int8": blocks_to_codes,
}


@pytest.mark.parametrize("program", aot.PROGRAMS, ids=str)
def test_a_program_stays_in_registers_and_is_what_is_reported(program):
    code = program.compile()
    assert code.stack == code.spills == 0
    assert code.shared <= aot.SHARED_LIMIT[program.target]
    LAWS[program.kind](code, program.target)
    if REPORT["triton"] == aot.triton.__version__:  # other compilers give other code
        assert aot.row(program, code) in REPORT["rows"], (
            "python -m tests.runtime.kernels.aot --out model_cards/kernels-machine-code.json"
        )


def test_the_report_has_every_program_once():
    reported = [(row["target"], row["program"]) for row in REPORT["rows"]]
    assert sorted(reported) == sorted((program.card, program.name) for program in aot.PROGRAMS)


def test_every_configuration_is_a_program():
    named = {target: {program.name for program in aot.programs(target)} for target in aot.SHARED_LIMIT}
    for target, tiles in ((86, triton_int8.AMPERE), (90, triton_int8.HOPPER)):
        assert {f"W8A8 product, {each.label}{depth}" for each in tiles for depth in ("", ", any depth")} <= named[target]
        assert {f"{block} to {kind}" for block in triton_ggml.EXPANSIONS for kind in ("bf16", "int8")} <= named[target]


def test_a_loop_that_shuffles_and_spills_is_seen():
    """The harness can fail: tiles too large for the registers."""
    code = aot.product(86, triton_int8.Tiles(256, 256, 64, warps=8, stages=2), even=True)
    assert code.spills > 0 and code.stack > 0
