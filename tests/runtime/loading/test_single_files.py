"""Single safetensors files without a manifest, ours and ComfyUI's: found, told apart, and painted with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.__main__ import main
from ideogram_q8.builds import open_artifact, variants
from ideogram_q8.builds.opening import open_weights
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import SourceError
from ideogram_q8.measure.metrics import finite_psnr
from ideogram_q8.model.architecture import BRANCHES, Branch, linears
from ideogram_q8.pocket import WEIGHTS
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, generate
from ideogram_q8.runtime.layers.packed import Fp8Linear, Int8Linear
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import Source, open_companions, open_source, open_text_encoder
from tests.single_files import NAMES, fp8_scaled, in_blocks, int8, plain, write_pair

PLAIN = '{"high_level_description":"a red star","compositional_deconstruction":{"background":"","elements":[]}}'
SMALL = Request(PLAIN, 1, "turbo-12", 64, 64)


@pytest.fixture(scope="module")
def pocket() -> Source:
    return open_source("pocket")


@pytest.fixture(scope="module")
def ours(pocket: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours") / "int8"
    quantize(pocket, choose("int8", pocket.config), folder)
    return folder


def opened(path: Path, **options: object) -> Source:
    found = open_weights(path, source="pocket", **options)  # type: ignore[arg-type]
    assert isinstance(found, Source)
    return found


@pytest.mark.parametrize("group", [0, 64, 256])
def test_int8_of_comfyui_is_read_as_it_was_meant(pocket, tmp_path, group):
    found = opened(write_pair(tmp_path, pocket, lambda source, branch: int8(source, branch, group)))
    assert (found.variant, found.folder, found.traits, found.config) == ("int8", WEIGHTS, pocket.traits, pocket.config)
    for branch in BRANCHES:
        reader, original = found.branch(branch), pocket.branch(branch)
        for linear in linears(pocket.config):
            name = f"{linear.name}.weight"
            got, wanted = reader.read(name).float(), original.read(name).float()
            if linear.name in in_blocks(pocket):
                assert reader.scheme(linear.name) == "w8a8" and (got - wanted).norm() < 0.012 * wanted.norm(), name
                assert torch.equal(reader.read_rows(name, 3, 9).float(), got[3:9])
            else:
                assert reader.scheme(linear.name) == "bf16" and torch.equal(got, wanted), name
    model = load(found)
    layer = model.branches["conditional"].layers[0].feed_forward.w1
    assert isinstance(layer, Int8Linear) and layer.rotation == group
    assert model.variant == "int8"


def test_our_int8_without_its_manifest_paints_the_same_picture(ours, tmp_path):
    for path in ours.glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    with_manifest = load(ours)
    without = load(tmp_path / "ideogram4-int8.safetensors", source="pocket")
    assert without.artifact_sha256 == with_manifest.artifact_sha256 and without.variant == "int8"
    assert without.schemes == with_manifest.schemes
    pictures = [generate(model, SMALL).image for model in (with_manifest, without)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    inside = open_weights(ours / "ideogram4-int8.safetensors")  # beside a manifest, a file stands for its artifact
    assert inside.manifest.variant == "int8"  # type: ignore[union-attr]


def test_the_files_of_comfyui_paint(pocket, tmp_path):
    reference = generate(load("pocket"), SMALL).image
    for name, make in {"fp8": fp8_scaled, "int8": int8}.items():
        model = load(write_pair(tmp_path / name, pocket, make), source="pocket")
        assert model.variant == name
        assert finite_psnr(reference, generate(model, SMALL).image) > 20, name
        kind = Fp8Linear if name == "fp8" else Int8Linear
        assert isinstance(model.branches["unconditional"].layers[0].attention.to_q, kind)


def test_a_weight_only_marker_means_weight_only(pocket, tmp_path):
    marker = {"full_precision_matrix_mult": True}
    found = opened(write_pair(tmp_path, pocket, lambda source, branch: int8(source, branch, 0, marker)))
    assert {found.branch("conditional").scheme(name) for name in in_blocks(pocket)} == {"w8a16"}


def test_commands_take_two_single_files_and_a_source(pocket, tmp_path, capsys):
    path = write_pair(tmp_path / "files", pocket, fp8_scaled)
    out = tmp_path / "x.png"
    painting = ["--caption", PLAIN, "--preset", "turbo-12", "--size", "64x64", "--out", str(out)]
    second = str(path.with_name(NAMES["unconditional"]))
    assert main(["generate", str(path), "--unconditional", second, "--source", "pocket", *painting]) == 0
    assert "fp8" in capsys.readouterr().out
    assert main(["generate", str(path), *painting]) == 2
    assert "has no folder text_encoder" in (said := capsys.readouterr().err) and "--source" in said
    captions = tmp_path / "captions.txt"
    captions.write_text("a red star\n", encoding="utf-8")
    stats = tmp_path / "stats.safetensors"
    calibrating = ["--captions", str(captions), "--preset", "turbo-12", "--size", "64x64", "--out", str(stats)]
    assert main(["calibrate", str(path), "--source", "pocket", *calibrating]) == 0
    assert stats.is_file()
    assert main(["calibrate", str(path), *calibrating, "--overwrite"]) == 2
    assert "--source" in capsys.readouterr().err


def test_int8_is_no_source(pocket, ours, tmp_path, capsys):
    path = write_pair(tmp_path, pocket, int8)
    for source in (path, ours / "ideogram4-int8.safetensors"):
        with pytest.raises(SourceError, match="is a quantized build already: .* is I8; expected the official FP8 checkpoint"):
            open_source(source)
    assert main(["quantize", str(ours), "--scheme", "int8", "--out", str(tmp_path / "x")]) == 2
    assert "holds a build, which is no source; expected the checkpoint that it was made from" in capsys.readouterr().err


def test_a_source_that_moved_is_asked_for(tmp_path):
    from tests.synthetic import write_source

    source = open_source(write_source(tmp_path / "source"))
    quantize(source, choose("int8", source.config), tmp_path / "built")
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="was made from .*source: .*; if it has moved, name it with --source"):
        load(tmp_path / "built")


def test_the_app_offers_them(pocket, ours, tmp_path):
    path = write_pair(tmp_path, pocket, int8)
    (found,) = variants.given([path], "pocket")
    assert (found.name, found.title, found.format) == ("int8-ideogram4_int8", "ideogram4_int8", "int8 · of unknown origin")
    assert found.location == str(path) and found.size_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_the_app_paints_with_them(pocket, tmp_path):
    from ideogram_q8.runtime.memory import inventory
    from ideogram_q8.ui.engine.fitting import fit
    from ideogram_q8.ui.engine.stock import Stock, source_of

    path = write_pair(tmp_path / "files", pocket, int8)
    stock = Stock(source_of([path]), [path], tmp_path / "cache")
    (name,) = (variant.name for variant in stock.variants() if variant.location == str(path))
    location, source = stock.location(name, lambda _: None)
    assert (location, source) == (str(path), "pocket") and load(location, source=source).variant == "int8"
    base = inventory.of_files(pocket, pocket.folder, pocket.config, torch.float32)
    assert fit(base, name, stock.described_in(name), (64, 64), 1 << 40, "cpu").plan is not None


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "built"
    source = open_text_encoder("pocket")
    quantize(source, choose("int8", source.config), folder)
    return folder


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_text_encoder_without_its_manifest_is_the_same(encoder, tmp_path, prefix):
    (path,) = encoder.glob("*.safetensors")
    tensors = {prefix + name: value for name, value in load_file(path).items() if not name.startswith("visual.")}
    save_file(tensors | {"lm_head.weight": torch.zeros(1)}, tmp_path / "encoder.safetensors")
    with_manifest, without = (load("pocket", text_encoder=place) for place in (encoder, tmp_path / "encoder.safetensors"))
    assert without.variant == "fp8, text encoder int8" == with_manifest.variant
    state, theirs = without.text_encoder.state_dict(), with_manifest.text_encoder.state_dict()
    assert state.keys() == theirs.keys() and all(torch.equal(state[name], theirs[name]) for name in state)
    assert without._encoder_bytes() == with_manifest._encoder_bytes()
    assert load("pocket", text_encoder=path).text_encoder_build.variant == "int8"  # type: ignore[union-attr]


def test_transformers_are_no_text_encoder(pocket, tmp_path):
    with pytest.raises(SourceError, match="is no text encoder of Ideogram 4: it has"):
        load("pocket", text_encoder=write_pair(tmp_path, pocket, int8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_source_is_called_by_what_it_is_stored_in(tmp_path, dtype):
    from tests.synthetic import float_tensors, write_source

    found = open_source(write_source(tmp_path / "s", convert=lambda tensors: float_tensors(tensors, dtype)))
    assert found.variant == {torch.bfloat16: "bf16", torch.float16: "f16", torch.float32: "f32"}[dtype]
    assert open_source("pocket").variant == "fp8"


# ---- layouts that mean the same ----


def listed_in_the_header(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    marks = {
        name.removesuffix(".comfy_quant"): json.loads(bytes(value.numpy()))
        for name, value in tensors.items()
        if name.endswith(".comfy_quant")
    }
    rest = {name: value for name, value in tensors.items() if not name.endswith(".comfy_quant")}
    return rest, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": marks})}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_markers_may_stand_in_the_header(pocket, tmp_path, prefix):
    made = {branch: int8(pocket, branch, 64) for branch in BRANCHES}
    for branch in BRANCHES:
        tensors, metadata = listed_in_the_header({prefix + name: value for name, value in made[branch].items()})
        save_file(tensors, tmp_path / NAMES[branch], metadata)
    found = opened(tmp_path / NAMES["conditional"])
    expected = opened(write_pair(tmp_path / "tensors", pocket, lambda _, branch: made[branch]))
    for branch in BRANCHES:
        for name in in_blocks(pocket):
            ours, theirs = (source.branch(branch).read_int8(f"{name}.weight") for source in (found, expected))
            assert ours is not None and theirs is not None
            assert torch.equal(ours[0], theirs[0]) and ours[2:] == theirs[2:]


@pytest.mark.parametrize("wrong", ["{", "[]", '{"layers": []}'])
def test_a_header_that_lists_nothing_sound_is_refused(pocket, tmp_path, wrong):
    path = write_pair(tmp_path, pocket, int8, metadata=lambda _: {"_quantization_metadata": wrong})
    with pytest.raises(SourceError, match="_quantization_metadata"):
        opened(path)


def test_a_linear_that_is_listed_and_not_quantized_is_a_problem(pocket, tmp_path):
    said = json.dumps({"layers": {"layers.0.attention.qkv": {"format": "int8_tensorwise"}}})
    path = write_pair(tmp_path, pocket, plain, metadata=lambda _: {"_quantization_metadata": said})
    with pytest.raises(SourceError, match="layers.0.attention.qkv is listed as quantized, and is not"):
        opened(path)


PREFIXES = ["transformer.", "model.transformer.", "module.", "model.diffusion_model.", "diffusion_model.", "net.module."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("make", [fp8_scaled, int8])
def test_prefixes_are_left_out(pocket, tmp_path, prefix, make):
    path = write_pair(tmp_path, pocket, lambda *of: {prefix + name: value for name, value in make(*of).items()})
    assert opened(path).config == pocket.config


@pytest.mark.parametrize(
    ("conditional", "unconditional"),
    [
        ("model.diffusion_model.", "model.diffusion_model.uncond."),
        ("", "uncond."),
        ("transformer.", "unconditional_transformer."),
        ("cond.", "uncond."),
    ],
)
@pytest.mark.parametrize("make", [fp8_scaled, int8, plain])
def test_one_file_may_hold_both_transformers(pocket, tmp_path, conditional, unconditional, make):
    both = {conditional + name: value for name, value in make(pocket, "conditional").items()}
    both |= {unconditional + name: value for name, value in make(pocket, "unconditional").items()}
    path = tmp_path / "both.safetensors"
    save_file(both, path)
    found, apart = opened(path), opened(write_pair(tmp_path / "apart", pocket, make))
    assert found.branch("conditional").files == found.branch("unconditional").files == (path,)
    for branch in BRANCHES:
        for name in ("embed_image_indicator.weight", "layers.1.attention.o.weight"):
            assert torch.equal(found.branch(branch).read(name), apart.branch(branch).read(name))
    with pytest.raises(SourceError, match="holds both transformers; name it by itself"):
        opened(path, unconditional=path)


def test_two_transformers_that_are_not_to_be_told_apart_are_refused(pocket, tmp_path):
    tensors = plain(pocket, "conditional")
    save_file({f"{word}.{name}": value.clone() for word in "ab" for name, value in tensors.items()}, tmp_path / "x.safetensors")
    with pytest.raises(SourceError, match="holds 2 transformers, and their prefixes 'a.', 'b.' do not tell"):
        opened(tmp_path / "x.safetensors")


# ---- what is not read ----


@pytest.mark.parametrize("name", ["nvfp4", "mxfp8", "convrot_w4a4", "asym_w4a8_int8", "awq_w4a16"])
def test_formats_that_are_not_read_are_counted_by_their_name(pocket, tmp_path, name):
    def make(source: Source, branch: Branch) -> dict[str, torch.Tensor]:
        return int8(source, branch, marker={"format": name})

    with pytest.raises(SourceError) as caught:
        opened(write_pair(tmp_path, pocket, make))
    count = len(in_blocks(pocket))
    assert caught.value.problems == tuple(
        f"{branch}: {count} Linears are in ComfyUI's format {name}, which is not read" for branch in BRANCHES
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t, n: t.pop(f"{n}.comfy_quant"), "is I8 without {n}.comfy_quant, which says how it is read"),
        (lambda t, n: t.pop(f"{n}.weight_scale"), "{n}.weight_scale is missing: {n}.weight is I8"),
        (lambda t, n: t.update({f"{n}.weight": t[f"{n}.weight"][1:].contiguous()}), "{n}.weight is I8"),
        (
            lambda t, n: t.update({f"{n}.weight": t[f"{n}.weight"].to(torch.int16)}),
            "{n}.weight is I16, and marked as int8_tensorwise",
        ),
    ],
)
def test_damaged_int8_is_named(pocket, tmp_path, change: Callable[..., object], problem):
    name = "layers.0.attention.o"

    def make(source: Source, branch: Branch) -> dict[str, torch.Tensor]:
        tensors = int8(source, branch)
        change(tensors, name)
        return tensors

    with pytest.raises(SourceError) as caught:
        opened(write_pair(tmp_path, pocket, make))
    assert len(caught.value.problems) == 2 and all(problem.format(n=name) in found for found in caught.value.problems)


@pytest.mark.parametrize(
    "marker",
    [
        {"convrot": 1},
        {"convrot": True, "convrot_groupsize": 100},
        {"convrot": True, "convrot_groupsize": "256"},
        {"convrot": True, "convrot_groupsize": 1024},
        {"transposed": True},
        {"params": {"zero_point": 3}},
        {"full_precision_matrix_mult": "no"},
    ],
)
def test_a_marker_that_is_not_understood_is_refused(pocket, tmp_path, marker):
    with pytest.raises(SourceError, match="comfy_quant is|do not divide its"):
        opened(write_pair(tmp_path, pocket, lambda *of: int8(*of, marker=marker)))


def test_impossible_scales_are_named(pocket, tmp_path):
    def make(source: Source, branch: Branch) -> dict[str, torch.Tensor]:
        tensors = int8(source, branch)
        tensors["layers.0.attention.o.weight_scale"][3] = float("nan")
        return tensors

    found = opened(write_pair(tmp_path, pocket, make))
    with pytest.raises(SourceError, match="weight_scale is nan in row 3, expected a positive number"):
        found.branch("conditional").read("layers.0.attention.o.weight")


# ---- inspect ----


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert main(["inspect", *map(str, arguments), "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_inspect_says_what_one_file_is(pocket, ours, tmp_path, capsys):
    path = write_pair(tmp_path, pocket, lambda *of: int8(*of, 64))
    found = inspected(capsys, path)
    assert (found["kind"], found["network"], found["branch"]) == ("safetensors", "transformer", "conditional")
    assert found["quantized"] == {"int8_tensorwise": len(in_blocks(pocket))} and found["made_by"] == "unknown"
    own = inspected(capsys, ours / "ideogram4-unconditional-int8.safetensors")
    assert own["branch"] == "unconditional" and str(own["made_by"]).startswith("ideogram-q8 ")
    weights = WEIGHTS / "text_encoder" / "model.safetensors", WEIGHTS / "vae" / "diffusion_pytorch_model.safetensors"
    assert [inspected(capsys, each)["network"] for each in weights] == ["text encoder", "VAE"]
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert inspected(capsys, tmp_path / "x.safetensors")["network"] == "unknown"


def test_inspect_says_what_a_pair_is(pocket, tmp_path, capsys):
    path = write_pair(tmp_path, pocket, int8)
    shutil.copy(WEIGHTS / "transformer" / "config.json", tmp_path)
    found = inspected(capsys, path, "--unconditional", path.with_name(NAMES["unconditional"]))
    assert (found["kind"], found["variant"], found["layout"]) == ("source", "int8", "BF16 and INT8, fused")


def test_the_manifest_still_rules_where_it_is(ours):
    assert open_artifact(ours).variant == "int8"
    assert open_companions("pocket").folder == WEIGHTS
