"""What a card says of how a build was made, what opens it, and what makes it again."""

from __future__ import annotations

import dataclasses
import re
import shlex

import pytest

from ideogram_q8.__main__ import build_parser
from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.publishing.cards.card import Figures, Links, render
from ideogram_q8.publishing.cards.card_method import commands, layer_rows, recipe_of
from ideogram_q8.publishing.cards.card_tools import tool_rows
from ideogram_q8.publishing.cards.licence import licence_of
from tests.publishing.example import FOLDER, NAMES, REPO, card_of, layer, manifest, metadata, recipe


def opened(build: Manifest) -> dict[str, str]:
    return {row.tool: row.opens for row in tool_rows(build, recipe_of(build))}


def with_layers(*layers: dict[str, object], policy: str = "naive", stats: str | None = None, scheme: str = "int8") -> Manifest:
    value = recipe(list(layers), policy, stats)
    variant = scheme if policy == "naive" else f"{scheme}-{policy}"
    return dataclasses.replace(manifest(FOLDER), recipe=value, scheme=scheme, variant=variant)


def test_what_does_not_work_is_said_plainly() -> None:
    plain, gguf = opened(manifest(FOLDER)), opened(dataclasses.replace(manifest(FOLDER), scheme="q4_k_m", variant="q4_k_m"))
    assert plain == {"Ideogram Q8": "yes", "ComfyUI": "yes", "stable-diffusion.cpp": "yes", "diffusers": "no"}
    assert gguf == {"Ideogram Q8": "yes", "stable-diffusion.cpp": "yes", "ComfyUI": "no", "diffusers": "no", "llama.cpp": "no"}
    weight_only = opened(with_layers(layer("layers.0.adaln_modulation", "w8a16", "one row")))
    assert (weight_only["stable-diffusion.cpp"], weight_only["ComfyUI"]) == ("partly", "partly")
    rotated = card_of(with_layers(layer("layers.0.attention.o", "w8a8", "outliers", rotation=256)))
    assert "torchao has no rotation" in rotated and "convert FOLDER --to diffusers" not in rotated
    assert "convert FOLDER --to diffusers" in card_of(manifest(FOLDER))


def test_what_was_run_is_said_with_its_version() -> None:
    gguf = dataclasses.replace(manifest(FOLDER), scheme="q4_k_m", variant="q4_k_m")
    shards = tuple(dataclasses.replace(file, path=f"{file.path}-{i}") for file in gguf.files for i in range(2))
    split = dataclasses.replace(gguf, files=shards)
    said = {
        scheme: {row.tool: row for row in tool_rows(build, recipe_of(build))}
        for scheme, build in (("int8", manifest(FOLDER)), ("gguf", gguf), ("split", split))
    }
    for scheme, tool, words in (
        ("int8", "ComfyUI", "0.33 was run"),
        ("int8", "stable-diffusion.cpp", "needs a build with leejet's ggml"),
        ("int8", "stable-diffusion.cpp", "its timestep embedding differs from Ideogram's"),
        ("gguf", "stable-diffusion.cpp", "master-898 and 97d2990 were run"),
        ("gguf", "stable-diffusion.cpp", "the fidelity measured here does not hold there"),
        ("gguf", "ComfyUI", "`--architecture ideogram`"),
        ("split", "stable-diffusion.cpp", "it reads one file a transformer"),
    ):
        assert words in said[scheme][tool].how
    assert said["split"]["stable-diffusion.cpp"].opens == "no" and said["gguf"]["stable-diffusion.cpp"].opens == "yes"
    assert not any("not run" in row.how for rows in said.values() for row in rows.values())


def test_a_folder_is_opened_by_diffusers_and_by_nothing_else() -> None:
    build = manifest(FOLDER)
    names = {old: f"{branch}/model.safetensors" for branch, old in NAMES.items()}
    files = tuple(dataclasses.replace(file, path=names[file.path]) for file in build.files)
    folder = dataclasses.replace(build, files=files, tensors={names[path]: rows for path, rows in build.tensors.items()})
    assert opened(folder) == {"Ideogram Q8": "yes", "diffusers": "yes", "ComfyUI": "no", "stable-diffusion.cpp": "no"}
    card = card_of(folder)
    assert "from_pretrained(" in card and metadata(card)["library_name"] == "diffusers"
    assert "from_pretrained(" not in card_of(build)


def test_what_makes_a_build_again() -> None:
    def lines(build: Manifest) -> list[str]:
        return list(commands(build, recipe_of(build), "pocket", "out"))

    assert lines(manifest()) == ["python -m ideogram_q8 quantize pocket --scheme int8 --out out-again"]
    auto = lines(with_layers(layer("layers.0.attention.o", "w8a8", "x"), policy="auto", stats="d" * 64))
    assert '"out/manifest.json"' in auto[0]
    assert auto[1] == "python -m ideogram_q8 quantize pocket --recipe recipe.json --out out-again"
    weighted = with_layers(
        layer("layers.0.attention.o", "q4_k", "x", weighted=True), policy="imatrix", stats="d" * 64, scheme="q4_k_s"
    )
    assert lines(weighted)[0].startswith("python -m ideogram_q8 calibrate pocket ")
    assert (
        lines(weighted)[1]
        == "python -m ideogram_q8 quantize pocket --scheme q4_k_s --importance stats.safetensors --out out-again"
    )
    assert "recipe make" in card_of(with_layers(layer("layers.0.attention.o", "w8a8", "x"), policy="auto", stats="d" * 64))
    assert "recipe make" not in card_of(weighted)


def test_commands_name_the_repository_and_the_size() -> None:
    card = card_of(manifest())
    assert "hf download someone/pocket-int8 --local-dir pocket-int8" in card
    assert re.search(r"python -m ideogram_q8 generate pocket-int8 .* --size 128x128 --out picture\.png", card)
    assert "python -m ideogram_q8 quantize pocket --scheme int8 --out pocket-int8-again" in card
    assert "git clone" not in card
    linked = render(
        manifest(), Figures(), licence_of(manifest()), REPO, Links(code="https://example.org/tool", newer="someone/two")
    )
    assert "git clone https://example.org/tool ideogram-q8 && cd ideogram-q8\npip install" in linked
    assert metadata(linked)["new_version"] == "someone/two" and "new_version" not in metadata(card)


BUILDS = {
    "pocket": manifest(),
    "ideogram": manifest(FOLDER),
    "by a recipe": with_layers(layer("layers.0.attention.o", "w8a8", "x"), policy="auto", stats="d" * 64),
    "weighted": with_layers(
        layer("layers.0.attention.o", "q4_k", "x", weighted=True), policy="imatrix", stats="d" * 64, scheme="q4_k_s"
    ),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=list(BUILDS))
def test_every_command_is_one_that_the_command_line_takes(build: Manifest) -> None:
    lines = re.findall(r"^python -m ideogram_q8 (.*)$", card_of(build), re.MULTILINE)
    assert len(lines) >= 2
    for line in lines:
        build_parser().parse_args(shlex.split(line))
    assert ("--device cuda --source " in lines[0]) == (build is not BUILDS["pocket"])


@pytest.mark.parametrize(
    ("policy", "said"), [("auto", "for each Linear the best of"), ("naive", "no statistics"), ("imatrix", "")]
)
def test_the_recipe_is_explained(policy: str, said: str) -> None:
    card = card_of(with_layers(layer("layers.0.attention.o", "w8a8", "x"), policy=policy))
    assert (f"The recipe is `{policy}`: " in card) == bool(said) and said in card


def test_kept_linears_are_grouped() -> None:
    made = recipe_of(manifest())
    assert [(row.kind, row.linears) for row in layer_rows(made, kept=True)] == [
        ("input_proj", 2),
        ("layers.*.adaln_modulation", 10),
    ]
    assert [tuple(row) for row in layer_rows(made, kept=False)] == [("layers.*.attention.qkv", 10, "int8, W8A8", "")]


def test_a_recipe_of_another_form_is_refused() -> None:
    with pytest.raises(PublishError, match="recipe is not understood"):
        recipe_of(dataclasses.replace(manifest(), recipe={"scheme": "int8"}))
