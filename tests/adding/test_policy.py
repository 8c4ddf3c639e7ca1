"""A policy is a row of `recipes.policies.POLICIES` and a function: `recipe make` and the cards know it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ideogram_q8 import __main__ as command_line
from ideogram_q8.model.dotted import function_at
from ideogram_q8.policies import naive
from ideogram_q8.policies.request import PolicyRequest
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.policies import POLICIES, Policy
from tests.publishing.example import FOLDER, card_of, manifest, recipe
from tests.synthetic import write_source

DUMMY = Policy(
    "dummy", "naive:dummy", "int8 by another name", "every Linear is what a dummy takes it for", options=("protect",)
)


def by_another_name(request: PolicyRequest) -> Recipe:
    return dataclasses.replace(choose("int8", request.source.config), policy=f"dummy{request.protect or ''}")


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES, "dummy", DUMMY)  # type: ignore[arg-type]  # a dict, which the annotation keeps others from changing
    monkeypatch.setattr(naive, "dummy", by_another_name, raising=False)


def made(tmp_path: Path, *more: str) -> int:
    source = tmp_path / "source"
    if not source.exists():
        write_source(source)
    out = str(tmp_path / "dummy.json")
    return command_line.main(["recipe", "make", str(source), "--policy", "dummy", "--out", out, "--overwrite", *more])


def test_recipe_make_knows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert made(tmp_path) == 0
    assert Recipe.from_json((tmp_path / "dummy.json").read_text(encoding="utf-8")).policy == "dummy"
    assert made(tmp_path, "--protect", "3") == 0
    assert Recipe.from_json((tmp_path / "dummy.json").read_text(encoding="utf-8")).policy == "dummy3"
    capsys.readouterr()
    assert made(tmp_path, "--alpha", "0.5") == 2
    assert "--alpha is for --policy paper, not dummy" in capsys.readouterr().err
    assert made(tmp_path, "--stats", "stats.safetensors") == 2
    assert "--policy dummy looks at no statistics" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command_line.main(["recipe", "make", "--help"])
    assert "dummy: int8 by another name" in " ".join(capsys.readouterr().out.split())


def test_its_sentence_and_its_command_are_on_a_card() -> None:
    layers = [{"linear": "layers.0.attention.o", "scheme": "w8a8", "rotation": 0, "reason": "x", "weighted": False}]
    card = card_of(dataclasses.replace(manifest(FOLDER), recipe=recipe(layers, "dummy"), variant="int8-dummy"))
    assert DUMMY.sentence in card and "--policy dummy --out recipe.json" in card


@pytest.mark.parametrize("policy", [policy for policy in POLICIES.values() if policy.name != "dummy"], ids=lambda row: row.name)
def test_every_row_has_a_function(policy: Policy) -> None:
    assert callable(function_at("ideogram_q8.policies", policy.place))
