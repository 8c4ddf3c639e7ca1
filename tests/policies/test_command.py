"""`recipe make`: from a stats file to a recipe that quantize takes, and every refusal in one line."""

from __future__ import annotations

import errno

import pytest

from ideogram_q8 import __main__ as command_line
from ideogram_q8.builds import open_artifact
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes import statistics as stats_file
from ideogram_q8.recipes.policies import POLICIES
from ideogram_q8.sources import open_source
from tests.policies.example import statistics_of
from tests.synthetic import TINY, WIDE_HEAD, write_source


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a source and its statistics."""
    folder = tmp_path_factory.mktemp("place")
    source = open_source(write_source(folder / "source"))
    stats_file.write(folder / "stats.safetensors", statistics_of(source, {"layers.0.feed_forward.w2": 200.0}))
    return folder


def run(*arguments: object) -> int:
    return command_line.main([str(argument) for argument in arguments])


def make(place, policy: str, *more: object) -> int:
    arguments = ("--policy", policy, "--out", place / f"{policy}.json", "--overwrite")
    return run("recipe", "make", place / "source", *arguments, *more)


@pytest.mark.parametrize("policy", POLICIES)
def test_from_statistics_to_an_artifact(place, tmp_path, capsys, policy):
    measured = ("--stats", place / "stats.safetensors") if POLICIES[policy].needs_statistics else ()
    assert make(place, policy, *measured) == 0
    recipe = Recipe.from_json((place / f"{policy}.json").read_text(encoding="utf-8"))
    assert recipe.policy == policy and recipe.sha256 in capsys.readouterr().out
    assert recipe.stats_sha256 == (sha256_of(place / "stats.safetensors") if measured else None)
    weighted = ("--importance", place / "stats.safetensors") if policy == "gguf" else ()
    assert run("quantize", place / "source", "--recipe", place / f"{policy}.json", "--out", tmp_path / "out", *weighted) == 0
    assert open_artifact(tmp_path / "out").recipe == recipe
    capsys.readouterr()
    assert run("recipe", "explain", place / f"{policy}.json") == 0
    assert capsys.readouterr().out.startswith(f"{recipe.variant}, conditional")
    if policy == "naive":
        assert recipe == choose("int8", TINY)


def test_options_reach_the_policy(place):
    stats = ("--stats", place / "stats.safetensors")
    assert make(place, "paper", *stats, "--alpha", 0.25, "--protect", 4) == 0
    recipe = Recipe.from_json((place / "paper.json").read_text(encoding="utf-8"))
    reasons = [plan.reason for plan in recipe.parts["conditional"].layers]
    assert sum(reason.startswith("protected") for reason in reasons) == 4
    assert any(reason.startswith("smoothed at alpha 0.25") for reason in reasons)
    sizes = []
    for target in (0.0042, 0.005):
        assert make(place, "auto", *stats, "--target-size", target) == 0
        auto = Recipe.from_json((place / "auto.json").read_text(encoding="utf-8"))
        sizes.append(sum(plan.scheme == "bf16" for part in auto.parts.values() for plan in part.layers))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("auto", (), "give --stats FILE, which `calibrate` writes"),
        ("naive", ("--stats", "x.safetensors"), "--policy naive looks at no statistics; leave --stats out"),
        ("convrot", ("--no-rotation",), "--no-rotation is for --policy auto, not convrot"),
        ("convrot", ("--alpha", "0.5"), "--alpha is for --policy paper, not convrot"),
        ("paper", ("--stats", "x", "--target-size", "3"), "--target-size is for --policy auto or gguf, not paper"),
        ("auto", ("--stats", "x", "--target-size", "nan"), "--target-size is nan; expected gigabytes"),
        ("auto", ("--stats", "STATS", "--target-size", "0.001"), "a budget of 0.001 GB is too small"),
        ("paper", ("--stats", "STATS", "--alpha", "2"), "alpha is 2.0; expected 0 to 1"),
        ("paper", ("--stats", "missing.safetensors"), "missing.safetensors is not a whole safetensors file"),
    ],
)
def test_refusals(place, capsys, policy, options, message):
    options = [place / "stats.safetensors" if option == "STATS" else option for option in options]
    assert make(place, policy, *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("error: ") == 1


def test_a_recipe_is_replaced_when_told_to_and_whole_or_not_at_all(place, tmp_path, capsys, monkeypatch):
    out = tmp_path / "recipe.json"
    arguments = ("recipe", "make", place / "source", "--out", out)
    assert run(*arguments, "--policy", "naive") == 0
    before = out.read_bytes()
    assert run(*arguments, "--policy", "convrot") == 2
    assert f"{out} is there already; use --overwrite" in capsys.readouterr().err

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert run(*arguments, "--policy", "convrot", "--overwrite") == 2
    assert "the disk is full" in capsys.readouterr().err
    assert (out.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (before, ["recipe.json"])
    assert run(*arguments, "--policy", "convrot", "--overwrite") == 0
    assert Recipe.from_json(out.read_text(encoding="utf-8")).policy == "convrot"


def test_a_pair_of_files_is_a_source_here_too(tmp_path, capsys):
    write_source(tmp_path, WIDE_HEAD)
    files = [
        tmp_path / folder / "diffusion_pytorch_model.safetensors" for folder in ("transformer", "unconditional_transformer")
    ]
    arguments = ("recipe", "make", files[0], "--policy", "naive", "--out", tmp_path / "recipe.json")
    assert run(*arguments) == 2
    assert "name the unconditional transformer's file too" in capsys.readouterr().err
    assert run(*arguments, "--unconditional", files[1]) == 0
    Recipe.from_json((tmp_path / "recipe.json").read_text(encoding="utf-8")).check(WIDE_HEAD)


def test_statistics_of_another_source_are_refused(place, tmp_path, capsys):
    write_source(tmp_path / "other", seed=3)
    arguments = ("--policy", "paper", "--stats", place / "stats.safetensors", "--out", tmp_path / "recipe.json")
    assert run("recipe", "make", tmp_path / "other", *arguments) == 2
    assert "calibrate this source" in capsys.readouterr().err
    assert not (tmp_path / "recipe.json").exists()
