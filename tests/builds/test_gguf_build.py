"""GGUF files that others have made: found, understood, and painted with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.builds import Artifact
from ideogram_q8.builds.gguf_build import GgufBuild, open_transformers, other_branch
from ideogram_q8.builds.opening import Build, open_weights
from ideogram_q8.builds.packed import GgmlWeight
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.model.architecture import BRANCHES, linears
from ideogram_q8.numerics import ggml
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import Source, open_companions, open_source
from tests.gguf_files import TYPES, write_branch, write_gguf
from tests.synthetic import TINY, WIDE_HEAD, write_source

pytestmark = pytest.mark.slow

PLAIN = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
MIXED = tuple(TYPES)
NAMES = ("ideogram4-Q8_0.gguf", "ideogram4_uncond-Q8_0.gguf")


@pytest.fixture(scope="module")
def pocket() -> Source:
    return open_source("pocket")


def write_pair(folder: Path, source: Source, kinds=MIXED, names=NAMES, **options) -> list[dict]:
    folder.mkdir(exist_ok=True)
    return [
        write_branch(folder / name, source.branch(branch), kinds, **options)
        for name, branch in zip(names, BRANCHES, strict=True)
    ]


@pytest.mark.parametrize(
    ("prefix", "architecture"),
    [("", None), ("", "ideogram4"), ("", "ideogram"), ("model.diffusion_model.", None), ("diffusion_model.", "ideogram4")],
)
def test_files_with_and_without_prefix_and_architecture_are_understood(source, tmp_path, prefix, architecture):
    written = write_pair(tmp_path, source, prefix=prefix, architecture=architecture)
    build = open_transformers(tmp_path / NAMES[0], tmp_path / NAMES[1], TINY)
    assert build.transformer_config == TINY and build.variant.removeprefix("gguf-") in TYPES
    for branch, tensors in zip(BRANCHES, written, strict=True):
        view = build.branch(branch)
        assert set(view.names) == set(tensors)
        for name, (values, kind) in tensors.items():
            block = TYPES[kind]
            expected = ggml.decode(ggml.encode(values.float(), block), block)
            assert torch.equal(view.read(name).float(), expected), name
        for linear in linears(TINY):
            packed, kind = view.packed(linear.name), tensors[f"{linear.name}.weight"][1]
            assert (packed is None) == (kind in ggml.FLOATS)
            if isinstance(packed, GgmlWeight):
                assert packed.block == kind and packed.shape == (linear.out_features, linear.in_features)


def test_pictures_are_nearly_those_of_the_source(pocket, tmp_path):
    write_pair(tmp_path, pocket, ("q8_0",))
    request = Request(PLAIN, 5, "turbo-12", 64, 64)
    reference, model = generate(load("pocket"), request), load(tmp_path / NAMES[0], source="pocket")
    result = generate(model, request)
    assert (model.variant, model.source) == ("gguf-q8_0", "pocket")
    digests = sorted(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in NAMES)
    assert result.artifact_sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    error = (np.asarray(result.image, np.float64) - np.asarray(reference.image, np.float64)) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 30


def test_an_exact_file_gives_the_very_picture_of_its_source(pocket, tmp_path):
    """bfloat16 is what FP8 is multiplied out to."""
    write_pair(tmp_path, pocket, ("bf16",))
    request = Request(PLAIN, 5, "turbo-12", 64, 64)
    images = [generate(model, request).image for model in (load("pocket"), load(tmp_path / NAMES[0], source="pocket"))]
    assert np.array_equal(*map(np.asarray, images))


def test_shapes_tell_the_dimensions_where_heads_are_as_wide_as_ideograms(tmp_path):
    wide = dataclasses.replace(WIDE_HEAD, num_layers=1)
    source = open_source(write_source(tmp_path / "source", wide))
    write_pair(tmp_path, source, ("q8_0",))
    assert open_transformers(tmp_path / NAMES[0]).transformer_config == wide
    tiny = open_source(write_source(tmp_path / "tiny"))
    write_pair(tmp_path, tiny, ("q8_0",))
    with pytest.raises(
        ArtifactError, match=r"has heads of width 32, Ideogram 4 has 256; put the model's config\.json beside it"
    ):
        open_transformers(tmp_path / NAMES[0])
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_json()), encoding="utf-8")
    assert open_transformers(tmp_path / NAMES[0]).transformer_config == TINY


def test_a_shape_that_comfyui_gguf_changed_is_changed_back(source, tmp_path):
    """Its converter may store widths that no block divides as rows of 256, and tells of it in the header."""
    import gguf

    write_pair(tmp_path, source, ("f32",))
    reader = source.branch("conditional")
    writer = gguf.GGUFWriter(tmp_path / NAMES[0], "ideogram4")
    for name in reader.names:
        values = reader.read(name).float()
        if name == "input_proj.weight":
            writer.add_array(f"comfy.gguf.orig_shape.{name}", list(values.shape))
            values = values.reshape(-1, 256)
        writer.add_tensor(name, values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    view = open_transformers(tmp_path / NAMES[0], tmp_path / NAMES[1], TINY).branch("conditional")
    assert torch.equal(view.read("input_proj.weight"), reader.read("input_proj.weight").float())


# ---- which files ----


@pytest.mark.parametrize(
    ("conditional", "unconditional"),
    [
        ("ideogram4-Q4_0.gguf", "ideogram4_uncond-Q4_0.gguf"),
        ("ideogram4-transformer-q4_0.gguf", "ideogram4-unconditional_transformer-q4_0.gguf"),
        ("ideogram4_Q5_K.gguf", "ideogram4_unconditional_Q5_K.gguf"),
        ("ideogram4-Q4_K_M.gguf", "ideogram4-unconditional-Q4_K_M.gguf"),
        ("Ideogram4_cond-q8_0.gguf", "Ideogram4_uncond-q8_0.gguf"),
        ("ideogram4-Q4_K-00001-of-00002.gguf", "ideogram4-unconditional-Q4_K-00001-of-00002.gguf"),
        ("ideogram4-Q4_K-00002-of-00002.gguf", "ideogram4-unconditional-Q4_K-00001-of-00002.gguf"),
    ],
)
def test_the_other_file_is_found_by_the_names_in_use(tmp_path, conditional, unconditional):
    others = ("ideogram4_uncond-Q2_K.gguf", "ideogram4_uncond-Q4_0.safetensors", "flux-Q4_0.gguf", "notes.txt")
    for name in (conditional, unconditional, unconditional.replace("00001-of", "00002-of"), *others):
        (tmp_path / name).touch()
    assert other_branch(tmp_path / conditional) == tmp_path / unconditional


def test_what_names_do_not_tell_is_asked_for(tmp_path):
    for name in ("ideogram4-Q8_0.gguf", "ideogram4_uncond-Q4_0.gguf", "ideogram4-unconditional-Q5_K.gguf"):
        (tmp_path / name).touch()
    expected = (
        r"is not to be told from names \(ideogram4-unconditional-Q5_K\.gguf, ideogram4_uncond-Q4_0\.gguf\); name its file too"
    )
    with pytest.raises(ArtifactError, match=expected):
        other_branch(tmp_path / "ideogram4-Q8_0.gguf")
    with pytest.raises(ArtifactError, match="is the unconditional one by its name; name the conditional one's file first"):
        other_branch(tmp_path / "ideogram4_uncond-Q4_0.gguf")
    (tmp_path / "nowhere").mkdir()
    (tmp_path / "nowhere" / "x.gguf").touch()
    with pytest.raises(ArtifactError, match=r"from names \(none\)"):
        other_branch(tmp_path / "nowhere" / "x.gguf")
    with pytest.raises(ArtifactError, match=r"there is no file .*gone\.gguf; check the path"):
        other_branch(tmp_path / "gone.gguf")


def test_swapped_files_that_say_what_they_are_are_refused(built):
    folder = built["q8_0"]
    first, second = folder / "ideogram4-Q8_0.gguf", folder / "ideogram4-unconditional-Q8_0.gguf"
    assert isinstance(open_transformers(first, second, TINY), GgufBuild)
    with pytest.raises(ArtifactError, match="says that it is the unconditional one, expected the conditional one; swap"):
        open_transformers(second, first, TINY)


def test_other_models_and_parts_of_one_are_refused(source, tmp_path):
    (tensors, _) = write_pair(tmp_path, source, ("q8_0",))

    def refusal(changed: dict, config=TINY) -> str:
        write_gguf(tmp_path / NAMES[0], changed)
        with pytest.raises(ArtifactError) as caught:
            open_transformers(tmp_path / NAMES[0], tmp_path / NAMES[1], config)
        return str(caught.value)

    assert "is no Ideogram 4 transformer: it has 1 tensors" in refusal({"x": (torch.ones(3), "f32")})
    less = {name: value for name, value in tensors.items() if name != "layers.1.attention.o.weight"}
    assert "layers.1.attention.o.weight is missing; check which files belong together" in refusal(less)
    more = {**tensors, "lora": (torch.ones(3), "f32")}
    assert "lora is unknown" in refusal(more)
    other = {**tensors, "layers.0.attention.o.weight": (torch.ones(128, 256), "q8_0")}
    assert "layers.0.attention.o.weight is Q8_0 [128, 256], expected [256, 256]" in refusal(other)
    assert "; and " in refusal(tensors, dataclasses.replace(TINY, num_layers=4))


# ---- opening ----


def test_the_rest_lies_beside_the_files_or_is_named(pocket, tmp_path):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("*transformer")))
    write_pair(folder, pocket, ("q8_0",))
    with pytest.raises(ArtifactError, match="has heads of width 32"):  # no config.json tells the rest
        open_weights(folder / NAMES[0])
    shutil.copy(WEIGHTS / "transformer" / "config.json", folder / "config.json")
    opened = open_weights(folder / NAMES[0])
    assert isinstance(opened, Build) and opened.rest.folder == folder and opened.traits == pocket.traits
    write_pair(tmp_path, pocket, ("q8_0",))
    with pytest.raises(SourceError, match="has no folder text_encoder; expected one with .* name the checkpoint as the source"):
        open_weights(tmp_path / NAMES[0])
    with pytest.raises(SourceError, match="is a checkpoint, which needs no source"):
        open_weights("pocket", source="pocket")
    with pytest.raises(SourceError, match="is a GGUF file, a build and no source; expected a checkpoint"):
        open_source(tmp_path / NAMES[0], unconditional=tmp_path / NAMES[1])


def test_the_files_of_an_artifact_are_opened_with_their_manifest(pocket, tmp_path):
    quantize(pocket, choose("q8_0", pocket.config), tmp_path / "built")
    opened = open_weights(tmp_path / "built" / "ideogram4-Q8_0.gguf")
    assert isinstance(opened, Artifact) and opened.manifest.source.location == "pocket"
    elsewhere = open_weights(tmp_path / "built", source=WEIGHTS)
    assert isinstance(elsewhere, Build) and elsewhere.weights.variant == "q8_0"
    assert load(elsewhere).artifact_sha256 == load(opened).artifact_sha256


def test_companions_need_no_transformers(tmp_path):
    folder = Path(shutil.copytree(WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("*transformer")))
    assert open_companions(folder).config is None and open_companions("pocket").location == "pocket"
    shutil.rmtree(folder / "vae")
    with pytest.raises(SourceError, match="has no folder vae"):
        open_companions(folder)


def test_the_command_paints_with_them(pocket, tmp_path, capsys):
    write_pair(tmp_path, pocket, ("q4_k", "q8_0"))
    generating = ["generate", str(tmp_path / NAMES[0]), "--caption", "a red star", "--preset", "turbo-12", "--size", "64x64"]
    out = tmp_path / "picture.png"
    assert main([*generating, "--source", "pocket", "--out", str(out)]) == 0
    assert "gguf-" in capsys.readouterr().out and out.is_file()
    assert main([*generating, "--out", str(out)]) == 2
    assert "has no folder text_encoder" in capsys.readouterr().err


def test_inspect_says_what_is_unknown(source, built, tmp_path, capsys):
    write_pair(tmp_path, source, ("q4_k",))
    assert main(["inspect", "--json", str(tmp_path / NAMES[0])]) == 0
    foreign = json.loads(capsys.readouterr().out)
    assert {foreign[key] for key in ("architecture", "branch", "made_by", "source_sha256")} == {"unknown"}
    assert foreign["kind"] == "gguf" and foreign["tensors"]["Q4_K"] > 0
    assert main(["inspect", "--json", str(built["q8_0"] / "ideogram4-Q8_0.gguf")]) == 0
    own = json.loads(capsys.readouterr().out)
    assert (own["architecture"], own["branch"]) == ("ideogram4", "conditional") and len(own["source_sha256"]) == 64
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    assert main(["inspect", str(tmp_path / "broken.gguf")]) == 2
    assert "is not a whole GGUF file" in capsys.readouterr().err
