"""Sources with one transformer, as distilled models are published: all that works with two works with it, and no other is made up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact
from ideogram_q8.builds.gguf_build import open_transformers
from ideogram_q8.builds.opening import open_weights
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, RequestError, SourceError
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.policies.convrot import convrot
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.runtime.generation.sampling import Request, generate, steps
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_source
from tests.synthetic import TINY, WIDE_HEAD, float_tensors, split_tensors, write_source

ONE = ("conditional",)
NONE = "none"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def weights_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".safetensors", ".gguf"))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket's conditional transformer, with nothing beside it."""
    folder = tmp_path_factory.mktemp("published") / "distilled"
    shutil.copytree(WEIGHTS / "transformer", folder / "transformer")
    shutil.copy(WEIGHTS / "traits.json", folder)
    return folder


@pytest.fixture(scope="module")
def statistics(tmp_path_factory: pytest.TempPathFactory, distilled: Path) -> Path:
    """Of two captions painted without guidance."""
    folder = tmp_path_factory.mktemp("statistics")
    (folder / "captions.txt").write_text("a red star\na blue square\n", encoding="utf-8")
    out = folder / "stats.safetensors"
    options = ("--captions", folder / "captions.txt", "--preset", "instant-8", "--size", "64", "--out", out)
    assert run("calibrate", distilled, "--source", "pocket", *options) == 0
    return out


def request(preset: str = "custom-2-g1") -> Request:
    return Request("a red star", 3, preset, 64, 64)


@pytest.mark.parametrize("convert", [dict, float_tensors, split_tensors], ids=["fp8", "float32", "split"])
def test_a_folder_with_one_transformer_is_a_source(tmp_path: Path, convert) -> None:
    source = open_source(write_source(tmp_path, convert=convert, branches=ONE))
    assert source.branches == source.parts == ONE and source.config == TINY
    assert list(source.record().files) == ["transformer/diffusion_pytorch_model.safetensors"]


def test_a_half_of_a_pair_is_no_source_of_one(tmp_path: Path) -> None:
    """A folder whose index promises the other transformer, or that has a place for it, is a download that did not end."""
    promising, begun = write_source(tmp_path / "promising", branches=ONE), write_source(tmp_path / "begun", branches=ONE)
    (promising / "model_index.json").write_text(json.dumps({"unconditional_transformer": ["diffusers", "X"]}), encoding="utf-8")
    (begun / "unconditional_transformer").mkdir()
    for folder in (promising, begun):
        with pytest.raises(SourceError, match=r"unconditional_transformer.config\.json"):
            open_source(folder)
        assert open_source(folder, unconditional=NONE).branches == ONE
    with pytest.raises(SourceError, match=r"transformer.config\.json"):
        open_source(write_source(tmp_path / "other", branches=("unconditional",)))


def test_the_conditional_transformer_of_a_pair_can_be_taken_alone(tmp_path: Path) -> None:
    pair = write_source(tmp_path)
    alone = open_source(pair, unconditional=NONE)
    assert alone.branches == ONE and set(alone.record().files.items()) < set(open_source(pair).record().files.items())


def test_one_file_is_a_source(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "source", WIDE_HEAD, branches=ONE)
    file = shutil.copy(folder / "transformer" / "diffusion_pytorch_model.safetensors", tmp_path / "instant.safetensors")
    assert open_source(file, unconditional=NONE).branches == ONE
    with pytest.raises(SourceError, match="name the unconditional transformer's file too, or --unconditional none"):
        open_source(file)
    other = shutil.copy(file, tmp_path / "instant_uncond.safetensors")
    with pytest.raises(SourceError, match="is the unconditional one, expected the conditional one"):
        open_source(other, unconditional=NONE)


@pytest.mark.parametrize("scheme", ["int8", "q8_0", "q4_k_m"])
def test_a_build_records_the_one_transformer(tmp_path: Path, scheme: str) -> None:
    """The same bytes as the conditional file of a build of both, but for the name of its recipe."""
    one = open_source(write_source(tmp_path / "one", branches=ONE))
    both = open_source(write_source(tmp_path / "both"))
    made = quantize(one, choose(scheme, one.config), tmp_path / "built")
    pair = quantize(both, choose(scheme, both.config), tmp_path / "pair")
    (name,) = weights_in(tmp_path / "built")
    assert [(file.branch, file.path) for file in made.files] == [("conditional", name)]
    assert list(made.tensors) == [name] and set(made.recipe["parts"]) == set(ONE)
    recipes = [Recipe.from_value(manifest.recipe).sha256.encode() for manifest in (made, pair)]
    assert (tmp_path / "built" / name).read_bytes().replace(*recipes) == (tmp_path / "pair" / name).read_bytes()
    opened = open_artifact(tmp_path / "built", verify=True)
    assert opened.branches == opened.parts == ONE


def test_recipes_are_for_the_transformers_that_there_are(tmp_path: Path) -> None:
    one, both = open_source(write_source(tmp_path / "one", branches=ONE)), open_source(write_source(tmp_path / "both"))
    recipe = convrot(one.config)
    assert recipe.only(both.parts) == recipe and recipe.only(both.parts).sha256 == recipe.sha256
    alone = Recipe.from_json(recipe.only(ONE).to_json())
    assert quantize(one, alone, tmp_path / "a").files == quantize(one, recipe, tmp_path / "b").files
    with pytest.raises(ArtifactError, match="recipe: is for conditional, not for conditional and unconditional"):
        quantize(both, alone, tmp_path / "c")


def test_int8_is_converted_there_and_back(tmp_path: Path) -> None:
    source = write_source(tmp_path / "one", branches=ONE)
    assert run("quantize", source, "--scheme", "int8", "--out", tmp_path / "int8") == 0
    assert run("convert", tmp_path / "int8", "--to", "diffusers", "--out", tmp_path / "there") == 0
    assert weights_in(tmp_path / "there") == ["transformer/diffusion_pytorch_model.safetensors"]
    assert run("convert", tmp_path / "there", "--to", "single", "--out", tmp_path / "back") == 0
    name = "ideogram4-int8.safetensors"
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "int8" / name).read_bytes()


@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_it_paints_from_source_build_and_file(tmp_path: Path, distilled: Path, scheme: str) -> None:
    """The pictures of the pair's conditional transformer at guidance 1, with the rest of the model from elsewhere."""
    built = tmp_path / scheme
    quantize(open_source(distilled), choose(scheme, open_source(distilled).config), built)
    pair = tmp_path / "pair"
    quantize(open_source("pocket"), choose(scheme, open_source("pocket").config), pair)
    (file,) = (built / name for name in weights_in(built))
    lone = Path(shutil.copy(file, tmp_path / file.name))
    whole = load(pair, branches=ONE)
    expected = generate(whole, request()).image.tobytes()
    for opened in (open_weights(built, source="pocket"), open_weights(lone, unconditional=NONE, source="pocket")):
        model = load(opened)
        assert list(model.branches) == list(model.schemes) == list(ONE)
        assert generate(model, request()).image.tobytes() == expected
        with pytest.raises(RequestError, match="here is one, the conditional; use guidance 1"):
            steps(model, request("turbo-12"))


@pytest.mark.parametrize("policy", ["paper", "auto"])
def test_recipes_are_made_of_its_statistics(tmp_path: Path, distilled: Path, statistics: Path, policy: str) -> None:
    recipe = tmp_path / "recipe.json"
    assert run("recipe", "make", distilled, "--policy", policy, "--stats", statistics, "--out", recipe) == 0
    assert run("quantize", distilled, "--recipe", recipe, "--out", tmp_path / "built") == 0
    assert open_artifact(tmp_path / "built").branches == ONE


def test_calibrating_a_pair_without_guidance_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red star\n", encoding="utf-8")
    arguments = ("--captions", captions, "--preset", "instant-8", "--size", "64", "--out", tmp_path / "s.safetensors")
    assert run("calibrate", "pocket", *arguments) == 2
    assert "preset instant-8 has guidance 1 and runs the conditional transformer only" in capsys.readouterr().err


def test_the_commands_take_it(tmp_path: Path, distilled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "star.png"
    painting = ["generate", distilled, "--source", "pocket", "--caption", "a red star", "--size", "64", "--out", out]
    assert run("inspect", distilled, "--json") == 0
    assert json.loads(capsys.readouterr().out)["branches"] == "conditional"
    assert run(*painting, "--preset", "instant-8") == 0
    assert read_metadata(out)["preset"] == "instant-8"
    capsys.readouterr()
    assert run(*painting) == 2
    assert "preset default-20 has guidance 3, which two transformers make" in capsys.readouterr().err
    assert run("doctor", distilled, "--source", "pocket") == 0
    assert "unconditional" not in capsys.readouterr().out


@pytest.mark.parametrize(("variant", "card"), [("int8", "16"), ("q8_0", "16"), ("q4_k_m", "12")])
def test_doctor_has_rows_for_one_transformer(variant: str, card: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One of Ideogram 4's fits a card without offload that two do not fit so."""
    assert run("doctor", variant) == 0
    lines = capsys.readouterr().out.splitlines()
    alone = [line for line in lines if "GB, guidance 1" in line]
    pair = [line for line in lines if "GB card" in line]
    assert [line.split()[0] for line in alone] == ["8", "12", "16", "24"]
    (one, both) = (next(line for line in lines if line.split()[0] == card) for lines in (alone, pair))
    assert ": fits, " in one and ": fits, " not in both


def test_what_needs_no_source_still_refuses_one(distilled: Path) -> None:
    with pytest.raises(SourceError, match="is a checkpoint, which needs no source"):
        open_weights("pocket", source="pocket")
    with pytest.raises(SourceError, match="has no folder text_encoder"):
        open_weights(distilled, source=distilled)


def test_a_gguf_file_is_taken_alone(tmp_path: Path) -> None:
    source = open_source(write_source(tmp_path / "one", WIDE_HEAD, branches=ONE))
    quantize(source, choose("q4_k_m", source.config), tmp_path / "built")
    file = Path(shutil.copy(tmp_path / "built" / "ideogram4-Q4_K_M.gguf", tmp_path / "lone.gguf"))
    build = open_transformers(file, NONE)
    assert build.branches == ONE and build.variant.startswith("gguf-")
    with pytest.raises(ArtifactError, match="or --unconditional none if there is none"):
        open_transformers(file)
