"""What is predicted from shapes alone is what torch's allocator hands out, within 5 %; and plans fit where they say they fit."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.builds.opening import open_weights
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.commands import doctor
from ideogram_q8.errors import RequestError, ResourceError
from ideogram_q8.machine.devices import PLANS
from ideogram_q8.model.architecture import BRANCHES, IDEOGRAM4, MAX_TEXT_TOKENS, linears
from ideogram_q8.model.components import LANGUAGE_MODEL
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation import decoding
from ideogram_q8.runtime.generation.denoising import Denoiser
from ideogram_q8.runtime.generation.sampling import encode_caption
from ideogram_q8.runtime.kernels import choose as choose_backend
from ideogram_q8.runtime.kernels import int8_attention
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.runtime.kernels.choosing.scratch import attention_scratch_bytes
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.loading.planning import describe, find_plan
from ideogram_q8.runtime.memory import budget, inventory, usage
from ideogram_q8.sources import open_source
from tests import live_bytes

GB = 10**9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found, source = tmp_path_factory.mktemp("artifacts"), open_source("pocket")
    for scheme in ("int8", "q4_k_s"):
        quantize(source, choose(scheme, source.config), found / scheme)
    return {scheme: found / scheme for scheme in ("int8", "q4_k_s")}


@pytest.fixture(scope="module")
def int8_folder(folders: dict[str, Path]) -> Path:
    return folders["int8"]


@pytest.fixture(scope="module")
def model() -> Model:
    return load("pocket")


@pytest.fixture(scope="module")
def networks() -> budget.Networks:
    return describe(open_weights("pocket"), torch.float32)


def test_the_measure_measures() -> None:
    assert live_bytes.peak(lambda: [torch.empty(1000, dtype=torch.uint8) for _ in range(5)]) == 5000
    assert live_bytes.peak(lambda: [len(torch.empty(1000, dtype=torch.uint8)) for _ in range(5)]) == 1000


def test_headers_tell_what_is_loaded(model: Model, networks: budget.Networks) -> None:
    for branch in BRANCHES:
        held, frequencies = usage.module_bytes(model.branches[branch]), model.branches[branch].rotary_emb.inv_freq.nbytes
        assert budget.branch_bytes(networks, branch) == held - frequencies
    assert networks.vae_bytes == pytest.approx(usage.module_bytes(model.vae), abs=64)
    assert networks.encoder.total == usage.weight_bytes(model.text_files()[:1], LANGUAGE_MODEL, model.dtype)


def test_headers_tell_what_is_loaded_of_an_artifact(int8_folder: Path) -> None:
    built = load(int8_folder)
    found = describe(open_weights(int8_folder), torch.float32)
    for branch in BRANCHES:
        frequencies = built.branches[branch].rotary_emb.inv_freq.nbytes
        assert budget.branch_bytes(found, branch) == usage.module_bytes(built.branches[branch]) - frequencies
    assert set(found.schemes["conditional"].values()) == {"w8a8", "bf16"}


def step_peak(model: Model, text_tokens: int, grid: tuple[int, int]) -> int:
    """Bytes that latents, a caption, preparing both branches and one step take at most, with what kernels keep for expanded weights."""
    t = torch.linspace(0.0, 0.9, 48)

    def paint() -> None:
        latents = torch.randn(1, grid[0] * grid[1], 64)
        texts = {
            "conditional": torch.zeros(text_tokens, 256, dtype=model.dtype),
            "unconditional": torch.zeros(0, 256, dtype=model.dtype),
        }
        denoisers = [Denoiser(model.branches[b], texts[b], grid, t, attention=model.attention) for b in model.branches]
        velocities = [denoiser.velocity(latents, 0) for denoiser in denoisers]
        assert len(velocities) == len(model.branches)

    workspace.release()
    with torch.no_grad():
        paint()  # what is allocated once and kept
        return live_bytes.peak(paint) + workspace.held_bytes()


VARIANTS = [("fp8", "bf16", "sdpa"), ("int8", "bf16", "sdpa"), ("q4_k_s", "bf16", "sdpa"), ("q4_k_s", "int8", "sdpa")]
VARIANTS += [("int8", "bf16", "int8")]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("text_tokens", "grid"), [(40, (8, 8)), (40, (16, 16)), (300, (24, 16))])
@pytest.mark.parametrize(("variant", "compute", "attention"), VARIANTS)
def test_a_step_peaks_where_it_was_predicted(
    variant: str,
    compute: str,
    attention: str,
    folders: dict[str, Path],
    text_tokens: int,
    grid: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    place = folders.get(variant, "pocket")
    found = describe(open_weights(place), dtype, compute, attention)
    measured = step_peak(load(place, compute=compute, attention=attention, dtype=dtype), text_tokens, grid)
    size = grid[1] * 16, grid[0] * 16
    weights = sum(budget.branch_bytes(found, branch) for branch in BRANCHES) + found.vae_bytes
    predicted = budget.denoise_activation_bytes(found, size, text_tokens, "cpu")
    assert abs((weights + predicted) / (weights + measured) - 1) < 0.05


@pytest.mark.parametrize(("text_tokens", "grid"), [(40, (8, 8)), (300, (24, 16))])
@pytest.mark.parametrize("variant", ["fp8", "int8", "q4_k_s"])
def test_one_branch_takes_what_was_predicted(
    variant: str, folders: dict[str, Path], text_tokens: int, grid: tuple[int, int]
) -> None:
    """Without guidance the second transformer is neither loaded nor counted."""
    place = folders.get(variant, "pocket")
    found = describe(open_weights(place), torch.float32, branches=("conditional",))
    model = load(place, branches=("conditional",))
    held = usage.module_bytes(*model.branches.values(), model.vae)
    measured = held + step_peak(model, text_tokens, grid)
    predicted = budget.footprint(found, budget.PLANS[1], (grid[1] * 16, grid[0] * 16), text_tokens, "cpu").denoise
    assert abs(predicted / measured - 1) < 0.05


def test_plans_of_one_transformer_stream_no_other() -> None:
    one = dataclasses.replace(int8 := inventory.of_ideogram4("int8"), schemes={"conditional": int8.schemes["conditional"]})
    for plan in budget.plans("cuda", one.schemes):
        assert set(plan.streamed) <= {"conditional"} and budget.plan_named(plan.key, "cuda", one.schemes) == plan
        saved = (
            budget.footprint(int8, budget.PLANS[0], (1024, 1024)).denoise - budget.footprint(one, plan, (1024, 1024)).denoise
        )
        assert saved > budget.branch_bytes(int8, "unconditional")
    with pytest.raises(
        RequestError, match="--plan is unconditional, on cuda with one transformer expected one of auto, resident"
    ):
        budget.plan_named("unconditional", "cuda", one.schemes)


@pytest.mark.parametrize(("tokens", "heads", "width"), [(700, 8, 32), (1500, 3, 64)])
def test_attention_with_int8_scores_takes_what_was_predicted(tokens: int, heads: int, width: int) -> None:
    """By itself, several heads at a time and one in parts: what a step hides behind its products."""
    q, k, v = (torch.randn(1, heads, tokens, width) for _ in range(3))
    measured = live_bytes.peak(lambda: int8_attention(q, k, v)) - q.nbytes
    assert abs(attention_scratch_bytes(tokens, heads, width, "cpu") / measured - 1) < 0.05


@pytest.mark.parametrize("vnni", [False, True])
def test_it_is_predicted_for_processors_with_vnni_and_without(
    vnni: bool, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other kind takes can be measured too, slowly: torch falls back to a loop."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    choose_backend.cache_clear()
    found = describe(open_weights(folders["int8"]), torch.bfloat16)
    measured = step_peak(load(folders["int8"], dtype=torch.bfloat16), 40, (8, 8))
    choose_backend.cache_clear()
    weights = sum(budget.branch_bytes(found, branch) for branch in BRANCHES) + found.vae_bytes
    predicted = budget.denoise_activation_bytes(found, (128, 128), 40, "cpu")
    assert abs((weights + predicted) / (weights + measured) - 1) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("words", [10, 60, 200])
def test_encoding_peaks_where_it_was_predicted(words: int, dtype: torch.dtype) -> None:
    model, caption = load("pocket", dtype=dtype), "a star " * words
    model.captions = None  # else the second time it would only be read
    encoder = usage.module_bytes(model.text_encoder)
    with torch.no_grad():
        tokens = len(encode_caption(model, caption))
        workspace.release()
        measured = live_bytes.peak(lambda: encode_caption(model, caption))
    found = describe(open_weights("pocket"), dtype)
    predicted = budget.encode_activation_bytes(found, tokens, "cpu")
    weights = sum(budget.branch_bytes(found, branch) for branch in BRANCHES) + found.vae_bytes + encoder
    assert abs((weights + predicted) / (weights + measured) - 1) < 0.05
    assert words < 60 or abs(predicted / measured - 1) < 0.25  # of short captions the encoder's own layers take more


@pytest.mark.parametrize("grid", [(8, 8), (16, 16), (24, 20)])
def test_decoding_peaks_where_it_was_predicted(model: Model, networks: budget.Networks, grid: tuple[int, int]) -> None:
    latents = torch.randn(1, grid[0] * grid[1], 64)
    measured = live_bytes.peak(lambda: decoding.decode(model.vae, model.denormalization, latents, grid))
    size = grid[1] * 16, grid[0] * 16
    predicted = budget.decode_activation_bytes(networks.vae_channels, size, torch.float32, "cpu")
    assert abs(predicted / measured - 1) < 0.05


def test_streaming_leaves_what_was_predicted(networks: budget.Networks) -> None:
    plain = load("pocket")
    for plan in budget.PLANS[3:]:
        model = load("pocket", plan=plan)
        transformers = usage.module_bytes(*model.branches.values())
        predicted = budget.footprint(networks, plan, (128, 128)).denoise
        resident = budget.footprint(networks, budget.PLANS[1], (128, 128)).denoise
        saved = usage.module_bytes(*plain.branches.values()) - transformers
        encoder = budget.SLOTS * networks.encoder.layer
        assert abs((resident - predicted + encoder) / saved - 1) < 0.01


def test_ideogram4_has_the_published_sizes() -> None:
    """Tensor data of a branch in bytes, as computed from the published files."""
    sizes = {name: budget.branch_bytes(inventory.of_ideogram4(name), "conditional") for name in ("fp8", "nf4", "int8", "q8_0")}
    assert sizes["fp8"] == 9_289_722_624
    assert sizes["nf4"] == 5_221_550_336
    assert sizes["int8"] == 9_901_717_760
    assert sizes["q8_0"] == 10_135_890_176
    assert len(linears(IDEOGRAM4)) == len(inventory.of_ideogram4("q4_k_m").schemes["conditional"])


@pytest.mark.parametrize(("variant", "side", "gigabytes"), [("int8", 1024, 23.0), ("int8", 2048, 25.1), ("q4_k_s", 1024, 13.0)])
def test_the_aims_for_a_24_gb_card_hold_on_paper(variant: str, side: int, gigabytes: float) -> None:
    """With 512 text tokens and both branches resident, on a card that nothing else uses."""
    found = budget.footprint(inventory.of_ideogram4(variant), budget.PLANS[2], (side, side), 512)
    assert found.peak <= gigabytes * GB
    assert found.peak <= usage.room_of(24)


def test_plans_take_less_one_after_the_other() -> None:
    for variant in inventory.IDEOGRAM4_VARIANTS:
        peaks = [budget.footprint(inventory.of_ideogram4(variant), plan, (1024, 1024)) for plan in budget.PLANS]
        assert [each.peak for each in peaks[2:]] == sorted((each.peak for each in peaks[2:]), reverse=True)
        assert [each.host for each in peaks] == sorted(each.host for each in peaks)
        assert all(max(each.denoise, each.decode) <= peaks[0].peak for each in peaks)


def test_the_first_plan_that_fits_is_the_fastest() -> None:
    int8 = inventory.of_ideogram4("int8")
    peaks = [budget.footprint(int8, plan, (1024, 1024)).peak for plan in budget.PLANS]
    for available, plan in ((max(peaks), 0), (peaks[2], 2), (peaks[3], 3), (peaks[4], 4)):
        found = budget.first_that_fits(int8, (1024, 1024), available)
        assert found is not None and found.plan is budget.PLANS[plan] and found.peak <= available
    assert budget.first_that_fits(int8, (1024, 1024), peaks[4] - 1) is None
    assert budget.least(int8, (1024, 1024)).plan is budget.PLANS[4]
    assert [plan.name for plan in budget.plans("cpu")] == ["all resident", "text encoder freed after use"]


def test_plans_have_the_names_that_people_type() -> None:
    assert tuple(plan.key for plan in budget.PLANS) == PLANS
    for device, keys in (("cuda", PLANS), ("cpu", PLANS[:2])):
        for key in keys:
            assert budget.plan_named(key, device).key == key
    with pytest.raises(RequestError, match="--plan is both, on cpu expected one of auto, resident, freed$"):
        budget.plan_named("both", "cpu")


def test_generate_takes_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "generate",
        "pocket",
        "--caption",
        "a star",
        "--size",
        "64x64",
        "--preset",
        "custom-2-g3",
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert main([*asked, "--plan", "both"]) == 2
    assert "--plan is both, on cpu expected one of auto, resident, freed" in capsys.readouterr().err
    assert main([*asked, "--plan", "everything"]) == 2
    assert main([*asked, "--plan", "freed"]) == 0
    assert (tmp_path / "a.png").is_file()


def test_auto_is_the_first_plan_with_room_for_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, cuda = open_weights("pocket"), torch.device("cuda")
    found = describe(opened, torch.float32)
    monkeypatch.setattr(
        usage, "available_bytes", lambda _: budget.footprint(found, budget.PLANS[3], (128, 128)).peak + usage.RESERVED
    )
    assert find_plan("auto", opened, (128, 128), cuda, torch.float32) is budget.PLANS[3]
    later = find_plan("auto", opened, (1024, 1024), cuda, torch.float32)
    assert later is None or budget.PLANS.index(later) > 3
    assert find_plan("unconditional", opened, (128, 128), cuda, torch.float32) is budget.PLANS[3]
    assert find_plan("auto", opened, (128, 128), torch.device("cpu"), torch.float32) is None


def test_auto_skips_what_main_memory_is_too_small_for_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened, cuda, size = open_weights("pocket"), torch.device("cuda"), (128, 128)
    found = describe(opened, torch.float32)
    needs = budget.footprint(found, budget.PLANS[3], size)
    monkeypatch.setattr(usage, "available_bytes", lambda _: needs.peak + usage.RESERVED)
    monkeypatch.setattr(usage, "pinnable_bytes", lambda: needs.host)
    assert find_plan("auto", opened, size, cuda, torch.float32) is budget.PLANS[3] and not caplog.records
    monkeypatch.setattr(usage, "pinnable_bytes", lambda: needs.host - 1)
    assert find_plan("auto", opened, size, cuda, torch.float32) is None
    assert caplog.messages[0] == "plan unconditional is skipped: it pins 0.0 GB of main memory, 0.0 GB can be"
    with pytest.raises(ResourceError, match="--plan unconditional pins 0.0 GB of main memory, 0.0 GB can be; choose a smaller"):
        find_plan("unconditional", opened, size, cuda, torch.float32)
    assert find_plan("freed", opened, size, cuda, torch.float32) is budget.PLANS[1]
    line = doctor._line("this cuda", found, size, MAX_TEXT_TOKENS, needs.peak, "cuda", needs.host - 1)
    assert "does not fit" in line and "--plan unconditional is skipped: it pins 0.0 GB" in line


def test_what_is_given_back_counts_as_room(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, cuda = open_weights("pocket"), torch.device("cuda")
    peak = budget.footprint(describe(opened, torch.float32), budget.PLANS[0], (128, 128)).peak
    monkeypatch.setattr(usage, "available_bytes", lambda _: usage.RESERVED)
    monkeypatch.setattr(usage, "pinnable_bytes", lambda: sys.maxsize)
    assert find_plan("auto", opened, (128, 128), cuda, torch.float32, held=peak) is budget.PLANS[0]
    assert find_plan("auto", opened, (128, 128), cuda, torch.float32) is None


def test_a_picture_leaves_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte less than it takes beside the reserve, and it is refused: the VAE would run out after all the work."""
    model = load("pocket")
    needed = model.placement(128, 128)
    model.device = torch.device("cuda")
    held, free = (
        sum(usage.module_bytes(each) for each in (*model.branches.values(), model.vae)),
        max(needed.denoise_bytes, needed.decode_bytes, needed.text_bytes),
    )
    monkeypatch.setattr(usage, "module_bytes", lambda *modules, device=None: held if len(modules) > 1 else 0)
    monkeypatch.setattr(usage, "predict", lambda *_: needed)
    monkeypatch.setattr(model, "overlap", False)
    for left, fits in ((0, True), (-1, False)):
        monkeypatch.setattr(usage, "available_bytes", lambda _, left=left: free - held + usage.RESERVED + left)
        assert model.has_room(128, 128) is fits


def test_auto_leaves_what_doctor_leaves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One byte less than a plan takes beside the libraries, and both choose the next."""
    opened, cuda = open_weights("pocket"), torch.device("cuda")
    exact = budget.footprint(describe(opened, torch.bfloat16), budget.PLANS[2], (128, 128)).peak + usage.RESERVED
    monkeypatch.setattr(usage, "CARDS", {24: exact + usage.CONTEXT, 16: exact - 1 + usage.CONTEXT})
    assert main(["doctor", "pocket"]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if " card " in line)
    for size, line in ((exact, first), (exact - 1, second)):
        monkeypatch.setattr(usage, "available_bytes", lambda _, size=size: size)
        plan = find_plan("auto", opened, (128, 128), cuda, torch.bfloat16)
        assert f"--plan {plan.key} " in line if plan else "does not fit" in line
    assert "--plan encoder" in first and "--plan encoder" not in second


@pytest.mark.parametrize("compute", ["bf16", "int8"])
def test_the_largest_expanded_weight_stays_in_every_step_on_a_card(compute: str) -> None:
    """Beside each product: of a picture so small that nothing else counts, it is next to all that a step takes; w1 and w3 are one."""
    found = replace(inventory.of_ideogram4("q8_0"), compute=compute)
    gates = 2 * 12_288 * 4608 * (1 if compute == "int8" else 2)
    apart, both = (budget.denoise_activation_bytes(found, (16, 16), 0, "cuda", overlap) for overlap in (False, True))
    others = budget.denoise_activation_bytes(replace(found, compute="bf16"), (16, 16), 0, "cpu")
    assert gates <= apart <= gates + others
    assert gates <= both - apart  # each stream has its own
    quantized = {**found.schemes["conditional"], "llm_cond_proj": "q8_0"}
    projected = replace(found, schemes={**found.schemes, "conditional": quantized})
    more = budget.denoise_activation_bytes(projected, (16, 16), 0, "cuda", False) - apart
    assert more == min(53_248 * 4608, 2**27 if compute == "bf16" else 2**62) * (1 if compute == "int8" else 2) - gates
    assert (
        budget.denoise_activation_bytes(projected, (16, 16), 0, "cuda", True) - both == more
    )  # captions are the first stream's


def test_decoding_begins_without_expanded_weights(model: Model) -> None:
    workspace.take((1000,), torch.int8, torch.device("cpu"))
    decoding.decode(model.vae, model.denormalization, torch.zeros(1, 4, model.denormalization.scale.numel()), (2, 2))
    assert workspace.held_bytes() == 0


def test_the_unconditional_branch_is_counted_without_the_text_projection() -> None:
    networks = inventory.of_ideogram4("int8")
    less = budget.branch_bytes(networks, "conditional") - budget.branch_bytes(networks, "unconditional")
    assert less == 2 * (53_248 + 53_248 * 4608 + 4608)  # bfloat16: norm, weight and bias


def test_larger_pictures_and_longer_captions_take_more() -> None:
    int8 = inventory.of_ideogram4("int8")
    for tokens in (1, 512, MAX_TEXT_TOKENS):
        sizes = [budget.activations(int8, (side, side), tokens) for side in (256, 1024, 2048)]
        for stage in ("denoise", "decode"):
            values = [getattr(size, stage) for size in sizes]
            assert values == sorted(set(values))
    texts = [budget.activations(int8, (256, 256), tokens).text for tokens in (1, 512, 2048)]
    assert texts == sorted(set(texts))


def test_both_branches_at_once_add_what_the_unconditional_one_takes() -> None:
    """Whatever caption the other one reads; nothing else changes."""
    int8, size = inventory.of_ideogram4("int8"), (1024, 1024)
    added = []
    for tokens in (1, 512, MAX_TEXT_TOKENS):
        apart, both = (budget.activations(int8, size, tokens, overlap=overlap) for overlap in (False, True))
        assert (apart.text, apart.decode) == (both.text, both.decode)
        added.append(both.denoise - apart.denoise)
    assert len(set(added)) == 1
    longer = budget.activations(int8, size, 4096).denoise - budget.activations(int8, size, 0).denoise
    # as much as 4,096 more tokens in one branch, without what is kept of them for all steps
    assert 0.85 * longer < added[0] < longer


def test_doctor_says_what_fits_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "int8", "pocket", "--text-tokens", "512"]) == 0
    out = capsys.readouterr().out
    assert "int8, 1024x1024, bfloat16, a caption of 512 tokens" in out
    assert "24 GB card    24.6 GB free: fits, --plan encoder (text encoder streamed); text 20.25 GB" in out
    assert "12 GB card    11.9 GB free: fits with offload, --plan both (both branches and text encoder streamed);" in out
    assert "pocket, 128x128" in out and out.count("--plan resident (all resident)") >= 4
    assert out.count("  branches     back to back: cpu has no streams") == 2
    assert "--attention int8 here: plain torch; comfy-kitchen refused: " in out
    assert "INT8 here    attention.qkv, attention.o, feed_forward.w1, w3, feed_forward.w2: " in out
    assert "comfy-kitchen refused: " in out and out.count("  measurements ") == 1  # not for the pocket, which is FP8
    assert "  here         norms: plain torch; Triton refused: needs CUDA" in out
    assert out.count("  here         attention: torch's attention for CPUs") == 2
    assert main(["doctor", "q4_k_m"]) == 0
    assert "  here         norms, q4_k, q5_k, q6_k, q8_0: plain torch; Triton refused: needs CUDA" in capsys.readouterr().out


def test_doctor_says_what_does_not_fit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "available_bytes", lambda _: GB)
    assert main(["doctor", "fp8", "--size", "2048x2048"]) == 0
    assert (
        "this cpu       1.0 GB free: does not fit; --plan freed (text encoder freed after use) needs text"
        in capsys.readouterr().out
    )


def test_doctor_refuses_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "int8", "--size", "9x9"]) == 2
    assert main(["doctor", "no/such/folder"]) == 2
    assert main(["doctor", "int8", "--text-tokens", "0"]) == 2
    assert capsys.readouterr().err.count("\n") == 3
    with pytest.raises(RequestError, match="unknown variant 'int9'"):
        inventory.of_ideogram4("int9")
