"""Compiles Triton programs for cards that are not there, and reads what the machine code says: registers, spills, the inner loop.

Triton's wheel brings ptxas, cuobjdump and nvdisasm. `python -m tests.runtime.kernels.aot [--out FILE]` reports on every configuration.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ideogram_q8.runtime.kernels.attention import triton_attention
from ideogram_q8.runtime.kernels.linear import triton_ggml, triton_int8
from ideogram_q8.runtime.kernels.linear.triton_int8 import Tiles
from ideogram_q8.runtime.kernels.programs import attention, blocks, rows, w8a8
from ideogram_q8.runtime.kernels.rows import triton_rows

SHARED_LIMIT = {86: 99 << 10, 90: 227 << 10}
"""Bytes of shared memory that one thread block can have, by target (CUDA programming guide, table of compute capabilities)."""
VALUES_A_THREAD = 16
"""Of an expansion: 64 blocks of 32 values or 8 of 256, by 4 warps."""
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_PRODUCTS = ("IMMA", "IGMMA")
_FLOAT_PRODUCTS = ("HMMA", "HGMMA")

Kind = Literal["product", "codes", "rows", "step", "attention", "expansion to bf16", "expansion to int8"]
"""What a program does, and so what must hold of its code: `codes` makes int8 of rows, `rows` rounds to bfloat16 on the way."""


@dataclass(frozen=True)
class MachineCode:
    """One program for one target: `instructions` in all, `loop` those of the innermost loop that multiplies, empty where there is none."""

    registers: int
    stack: int
    spills: int
    shared: int
    ptx: str
    instructions: int
    loop: tuple[str, ...]

    @property
    def products(self) -> int:
        """Matrix instructions of int8 in the loop."""
        return sum(name.startswith(_PRODUCTS) for name in self.loop)

    @property
    def float_products(self) -> int:
        """Those of float16."""
        return sum(name.startswith(_FLOAT_PRODUCTS) for name in self.loop)


def compile_for(
    target: int,
    program: triton.runtime.JITFunction,
    types: Mapping[str, str],
    constants: Mapping[str, object],
    aligned: tuple[str, ...],
    **options: object,
) -> MachineCode:
    """Machine code for compute capability target / 10.

    Args:
        types: Triton's type of each argument that is not a constant, as `*i8` or `i32`.
        aligned: the arguments that are multiples of 16, as a launch finds out from its values.
    """
    names = program.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(program, signature, values, attributes)
    kernel = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"enable_fp_fusion": False, **options})
    return _read(kernel.asm["cubin"], kernel.asm["ptx"], kernel.metadata.shared)


def _read(cubin: bytes, ptx: str, shared: int) -> MachineCode:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run("cuobjdump", "-res-usage", file.name)
        registers, stack = (int(re.findall(rf"{what}:(\d+)", usage)[-1]) for what in ("REG", "STACK"))
        code = _run("nvdisasm", "-c", "-ndf", file.name)
    names = tuple(filter(None, map(_instruction, code.splitlines())))
    spills = sum(name.startswith(("LDL", "STL")) for name in names)
    return MachineCode(registers, stack, spills, shared, ptx, len(names), _multiplying_loop(code))


def _run(tool: str, *arguments: str) -> str:
    return subprocess.run([_TOOLS / tool, *arguments], check=True, capture_output=True, text=True).stdout


def _instruction(line: str) -> str:
    """The mnemonic of a line of nvdisasm, with modifiers; empty for labels and directives."""
    found = re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T0-9]+\s+)?([A-Z][A-Z0-9_.]*)", line)
    return found[1] if found else ""


def _multiplying_loop(code: str) -> tuple[str, ...]:
    """The shortest run of instructions from a label to a branch back to it that has matrix instructions."""
    lines, starts, loops = code.splitlines(), {}, []
    for i, line in enumerate(lines):
        if label := re.match(r"(\.L_x_\d+):", line):
            starts[label[1]] = i
        elif (jump := re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line)) and jump[1] in starts:
            body = [name for part in lines[starts[jump[1]] : i + 1] if (name := _instruction(part))]
            if any(name.startswith(_PRODUCTS) for name in body):
                loops.append(tuple(body))
    return min(loops, key=len, default=())


def product(target: int, tiles: Tiles, even: bool) -> MachineCode:
    """The W8A8 product with bias and bfloat16 output; inputs a multiple of the depth where `even`, and of 16 in any case."""
    pointers = {"a": "*i8", "b": "*i8", "out": "*bf16", "row_scale": "*fp32", "scale": "*fp32", "bias": "*bf16"}
    types = {**pointers, "M": "i32", "N": "i32", "K": "i32"}
    constants = {**tiles.constants, "EVEN_K": even, "HAS_BIAS": True}
    return compile_for(
        target, w8a8.matmul, types, constants, (*pointers, "N", "K"), num_warps=tiles.warps, num_stages=tiles.stages
    )


def row_quantizer(target: int, width: int) -> MachineCode:
    """`quantize_rows` of bfloat16."""
    pointers = {"x": "*bf16", "codes": "*i8", "scale": "*fp32"}
    return _over_rows(target, w8a8.quantize_rows, pointers, {}, width)


def _over_rows(
    target: int,
    program: triton.runtime.JITFunction,
    pointers: Mapping[str, str],
    numbers: Mapping[str, str],
    width: int,
    turn: Mapping[str, int] = MappingProxyType({}),
) -> MachineCode:
    block = triton_rows.row_block(width)
    types = {**pointers, "width": "i32", **numbers}
    constants = {"BLOCK": block, **turn}
    return compile_for(target, program, types, constants, (*pointers, "width"), num_warps=triton_rows.row_warps(block))


def _turn(rotated: bool) -> Mapping[str, int]:
    return {"GROUP": 256, "STAGES": 4} if rotated else {"GROUP": 1, "STAGES": 0}


def rotating_quantizer(target: int, width: int) -> MachineCode:
    """`rotate_and_quantize` of bfloat16."""
    pointers = {"x": "*bf16", "codes": "*i8", "scale": "*fp32"}
    return _over_rows(target, rows.rotate_and_quantize, pointers, {}, width, _turn(True))


def norm_quantizer(target: int, width: int, rotated: bool) -> MachineCode:
    """`normalize_and_quantize` of bfloat16."""
    pointers = {"x": "*bf16", "factor": "*bf16", "codes": "*i8", "scale": "*fp32"}
    return _over_rows(target, rows.normalize_and_quantize, pointers, {"eps": "fp32"}, width, _turn(rotated))


def gate_quantizer(target: int, width: int, rotated: bool) -> MachineCode:
    """`gate_and_quantize` of bfloat16."""
    pointers = {"x": "*bf16", "codes": "*i8", "scale": "*fp32"}
    return _over_rows(target, rows.gate_and_quantize, pointers, {}, width, _turn(rotated))


def residual(target: int, width: int) -> MachineCode:
    """`add_normalized` of bfloat16."""
    pointers = {"residual": "*bf16", "x": "*bf16", "factor": "*bf16"}
    return _over_rows(target, rows.add_normalized, pointers, {"eps": "fp32"}, width)


def heads(target: int, count: int, width: int) -> MachineCode:
    """`place_heads` of bfloat16."""
    pointers = {"x": "*bf16", "factor": "*bf16", "cos": "*bf16", "sin": "*bf16"}
    types = {**pointers, "token_stride": "i32", "half": "i32", "eps": "fp32"}
    constants = {"HEADS": count, "HALF": triton_rows.row_block(width // 2)}
    aligned = (*pointers, "token_stride", "half")
    return compile_for(target, rows.place_heads, types, constants, aligned, num_warps=triton_rows.HEAD_WARPS)


def guided_step(target: int) -> MachineCode:
    """`guided_step` of float32."""
    pointers = dict.fromkeys(("latents", "unconditional", "conditional", "velocity", "moved"), "*fp32")
    types = {**pointers, "count": "i32", "guidance": "fp32", "step": "fp32"}
    constants = {"BLOCK": triton_rows.STEP_BLOCK}
    return compile_for(target, rows.guided_step, types, constants, (*pointers, "count"), num_warps=triton_rows.STEP_WARPS)


def head_quantizer(target: int, smoothed: bool) -> MachineCode:
    """`quantize_heads` of 256 values in bfloat16: queries, or keys, whose mean is taken away first."""
    pointers = {"x": "*bf16", "mean": "*fp32", "codes": "*i8", "scale": "*fp32"}
    strides = ("batch_stride", "head_stride", "token_stride")
    types = {**pointers, **dict.fromkeys(("tokens", "heads", *strides), "i32"), "factor": "fp32"}
    constants = {"ROWS": triton_attention.ROWS, "WIDTH": 256, "GROUP": 256, "STAGES": 4, "HAS_MEAN": smoothed}
    aligned = (*pointers, *strides)
    return compile_for(target, attention.quantize_heads, types, constants, aligned, num_warps=triton_attention.ROW_WARPS)


def attend(target: int, even: bool) -> MachineCode:
    """`attention.attend` of heads of 256 values, bfloat16 output; `even` where the tokens are a multiple of what is taken at a time."""
    capability = divmod(target, 10)
    tiles = triton_attention.tiles_for(capability)
    pointers = {"queries": "*i8", "query_scale": "*fp32", "keys": "*i8", "key_scale": "*fp32", "values": "*fp16"}
    pointers |= {"factor": "*fp32", "out": "*bf16"}
    types = {**pointers, **dict.fromkeys(("query_tokens", "tokens", "heads"), "i32")}
    constants = {"WIDTH": 256, "BM": tiles.queries, "BN": tiles.keys, "EVEN": even}
    constants["HALF_SUMS"] = capability in triton_attention.HALF_SUMS
    aligned = (*pointers, "query_tokens", "tokens") if even else tuple(pointers)
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True}
    return compile_for(target, attention.attend, types, constants, aligned, **options)


def expansion(target: int, name: str, to_codes: bool) -> MachineCode:
    """A block type to bfloat16 or to int8 codes, rows of 18 * 256 values."""
    chosen = triton_ggml.EXPANSIONS[name]
    size = 256 if name.endswith("_k") else 32
    pointers = {"data": "*u8", "halves": "*fp16", "out": "*i8" if to_codes else "*bf16", "scale": "*fp32"}
    constants = {"BLOCKS_PER_ROW": 4608 // size, "TO_CODES": to_codes, "BLOCKS": chosen.blocks, **chosen.constants}
    program = getattr(blocks, chosen.program)
    return compile_for(
        target, program, {**pointers, "count": "i32"}, constants, (*pointers, "count"), num_warps=triton_ggml.WARPS
    )


@dataclass(frozen=True)
class Program:
    """A program in one configuration for one target; `compile` makes its code."""

    target: int
    kind: Kind
    name: str
    compile: Callable[[], MachineCode]

    @property
    def card(self) -> str:
        return f"sm_{self.target}"

    def __str__(self) -> str:
        return f"{self.card} {self.name}"


def programs(target: int) -> Iterator[Program]:
    """Everything that runs on a card."""
    found: list[tuple[Kind, str, Callable[..., MachineCode], tuple[object, ...]]] = [
        *(
            ("product", f"W8A8 product, {tiles.label}{'' if even else ', any depth'}", product, (tiles, even))
            for even in (True, False)
            for tiles in triton_int8.CONFIGURATIONS[target // 10]
        ),
        *(("codes", f"rows of {width} to int8", row_quantizer, (width,)) for width in (4608, 12288)),
        ("rows", "norm and rows of 4608 to int8", norm_quantizer, (4608, False)),
        ("rows", "SwiGLU and rows of 12288 to int8", gate_quantizer, (12288, False)),
        ("rows", "rotation and rows of 4608 to int8", rotating_quantizer, (4608,)),
        ("rows", "norm, rotation and rows of 4608 to int8", norm_quantizer, (4608, True)),
        ("rows", "SwiGLU, rotation and rows of 12288 to int8", gate_quantizer, (12288, True)),
        ("rows", "norm, gate and residual of 4608", residual, (4608,)),
        ("rows", "norm and positions of 18 heads of 256", heads, (18, 256)),
        ("step", "guidance and Euler step", guided_step, ()),
        ("codes", "queries of 256 to int8", head_quantizer, (False,)),
        ("codes", "keys of 256 to int8", head_quantizer, (True,)),
        *(("attention", f"attention, {'even' if even else 'any'} tokens", attend, (even,)) for even in (True, False)),
        *(("expansion to bf16", f"{block} to bf16", expansion, (block, False)) for block in triton_ggml.EXPANSIONS),
        *(("expansion to int8", f"{block} to int8", expansion, (block, True)) for block in triton_ggml.EXPANSIONS),
    ]
    for kind, name, of, arguments in found:
        yield Program(target, kind, name, partial(of, target, *arguments))


PROGRAMS = tuple(program for target in SHARED_LIMIT for program in programs(target))


def row(program: Program, code: MachineCode) -> dict[str, object]:
    """What the report keeps: registers of a thread, bytes of stack and of shared memory, spills, instructions, the loop that multiplies."""
    return {
        "target": program.card,
        "program": program.name,
        "registers": code.registers,
        "stack_bytes": code.stack,
        "spills": code.spills,
        "shared_bytes": code.shared,
        "instructions": code.instructions,
        "loop_instructions": len(code.loop),
        "int8_products": code.products,
        "float16_products": code.float_products,
    }


def _line(found: Mapping[str, object]) -> str:
    loop = f"{found['loop_instructions']} / {found['int8_products']} + {found['float16_products']}"
    cells = (found[key] for key in ("target", "program", "registers", "stack_bytes", "spills", "shared_bytes", "instructions"))
    return "{:6} {:40} {:4} {:6} {:6} {:7} {:5}  ".format(*cells) + (loop if found["int8_products"] else "-")


def main() -> int:
    """Prints the report; `loop` is instructions / int8 products + float16 products of the loop that multiplies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep it in a .json file")
    options = parser.parse_args()
    print(f"Triton {triton.__version__}\n{'program':47} regs  stack spills  shared  code  loop")
    rows = []
    for program in PROGRAMS:
        rows.append(row(program, program.compile()))
        print(_line(rows[-1]), flush=True)
    if options.out:
        found = {"triton": triton.__version__, "ran_on_a_card": False, "rows": rows}
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
