"""Names as people type them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ideogram_q8.__main__ import build_parser
from ideogram_q8.errors import RequestError
from ideogram_q8.machine.devices import DEVICES, DTYPES
from ideogram_q8.model.architecture import PRESETS
from ideogram_q8.model.schemes import NAMED_SCHEMES, gguf_types
from ideogram_q8.model.typed import ALIASES, as_typed
from ideogram_q8.recipes.rules import parse

TYPED = {
    "Q4_K_M": "q4_k_m", "q4-k-m": "q4_k_m", "q4_k": "q4_k_m", "Q5_K": "q5_k_m", "Q8_0": "q8_0", "q8": "q8_0", "Q6_K": "q6_k",
    "INT8": "int8", "Int8": "int8", "W8A8": "int8", " q4_k_s ": "q4_k_s",
}  # fmt: skip


@pytest.mark.parametrize(("typed", "scheme"), TYPED.items())
def test_schemes(typed: str, scheme: str) -> None:
    assert as_typed(typed, NAMED_SCHEMES) == scheme
    assert build_parser().parse_args(["quantize", "pocket", "--scheme", typed, "--out", "x"]).scheme == scheme


@pytest.mark.parametrize("names", [NAMED_SCHEMES, gguf_types(), DEVICES, DTYPES, tuple(PRESETS)])
def test_every_name_is_itself_in_any_case(names: tuple[str, ...]) -> None:
    for name in names:
        assert as_typed(name, names) == as_typed(name.upper(), names) == as_typed(name.replace("_", "-"), names) == name


def test_what_is_none_stays_as_it_was_typed() -> None:
    for text in ("Q2_K", "", "int", "q4_k_xl"):
        assert as_typed(text, NAMED_SCHEMES) == text
    with pytest.raises(RequestError, match="argument --scheme: invalid choice: 'Q2_K'"):
        build_parser().parse_args(["quantize", "pocket", "--scheme", "Q2_K", "--out", "x"])


def test_a_type_is_not_another_ones_preset() -> None:
    """Q4_K is a preset where presets are chosen, and a type where types are."""
    assert (
        parse("layers.*=Q4_K") == ("layers.*", "q4_k") and parse("a=BF16") == ("a", "bf16") and parse("a=fp16") == ("a", "f16")
    )
    with pytest.raises(RequestError, match="expected PATTERN=TYPE"):
        parse("a=Q4_K_M")


def test_other_names_mean_something_that_exists() -> None:
    known = {*NAMED_SCHEMES, *gguf_types(), *DTYPES, *PRESETS}
    assert {name for names in ALIASES.values() for name in names} <= known


@pytest.mark.parametrize(
    ("option", "typed", "read"),
    [("device", "CUDA", "cuda"), ("dtype", "BF16", "bfloat16"), ("compute", "INT8", "int8"), ("attention", "SDPA", "sdpa")],
)
def test_every_choice_of_the_command_line(option: str, typed: str, read: str) -> None:
    line = ["generate", "INT8", "--caption", "X", "--out", "Y.png", f"--{option}", typed]
    arguments = build_parser().parse_args(line)
    assert getattr(arguments, option) == read
    assert (arguments.source, arguments.caption, arguments.out) == ("INT8", "X", Path("Y.png"))  # what is no choice stays


def test_names_of_verbs_and_what_follows_them_stay() -> None:
    with pytest.raises(RequestError, match="invalid choice: 'Generate'"):
        build_parser().parse_args(["Generate", "x"])
    assert isinstance(build_parser(), argparse.ArgumentParser)
