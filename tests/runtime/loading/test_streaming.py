"""Streamed blocks compute what resident ones compute, whenever the device really copies; slots hold two blocks and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ideogram_q8.builds.opening import open_weights
from ideogram_q8.builds.quantization import quantize
from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.model.architecture import BRANCHES, Branch
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.generation.sampling import Request, steps
from ideogram_q8.runtime.layers import fusing
from ideogram_q8.runtime.loading import streaming
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.runtime.loading.networks import build_transformer
from ideogram_q8.runtime.loading.streaming import STREAMED, BlockStream, HostLane, Source, fill, piece_sizes
from ideogram_q8.runtime.memory import budget, usage
from ideogram_q8.runtime.text.encoding import text_features
from ideogram_q8.sources import Source as Checkpoint
from ideogram_q8.sources import open_source
from tests import live_bytes

pytestmark = pytest.mark.slow

REQUEST = Request("a red star", 3, "turbo-12", 64, 64)


class LazyLane:
    """Copies as late as a device may: when somebody waits for it."""

    def use(self, slot: torch.Tensor) -> None:
        """Knows none."""

    def copy(self, slot: torch.Tensor, source: Source) -> Callable[[], None]:
        return lambda: fill(slot, source)

    def wait(self, ticket: Callable[[], None]) -> None:
        ticket()


class CountingLane(HostLane):
    def __init__(self) -> None:
        self.copied = 0

    def copy(self, slot: torch.Tensor, source: Source) -> None:
        self.copied += 1
        super().copy(slot, source)


def latents(model: Model, count: int = 3) -> list[torch.Tensor]:
    found = steps(model, REQUEST)
    return [next(found).latents for _ in range(count)]


def garbage(stream: BlockStream) -> None:
    """What a device's fresh memory may hold: NaN in every floating format."""
    for slot in stream._slots:
        slot.fill_(0xFF)


@pytest.fixture(scope="module")
def resident() -> list[torch.Tensor]:
    return latents(load("pocket"))


@pytest.mark.parametrize("branches", [("unconditional",), ("unconditional", "conditional")])
def test_streamed_branches_paint_the_same(branches: tuple[Branch, ...], resident: list[torch.Tensor]) -> None:
    model = load("pocket")
    model.stream(branches, torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(latents(model), resident, strict=True))


@pytest.mark.parametrize("lane", [HostLane, LazyLane])
@pytest.mark.parametrize("layers", [1, 2, 4, 5])
def test_the_order_of_copies_does_not_matter(lane: type[HostLane], layers: int) -> None:
    """As early and as late as a device may copy, for even and odd numbers of blocks, twice around."""
    expected, streamed = (load("pocket").branches["conditional"].layers[:layers] for _ in range(2))
    stream = BlockStream(list(streamed), torch.device("cpu"), lane())
    garbage(stream)
    x = torch.randn(1, 3, 256, generator=torch.Generator().manual_seed(0))
    for i in (*range(layers), *range(layers), layers - 1, 0):
        stream.enter(i)
        for part in ("attention.to_q", "attention.to_out.0", "feed_forward.w3"):
            assert torch.equal(streamed[i].get_submodule(part)(x), expected[i].get_submodule(part)(x)), (i, part)


def test_a_lane_knows_every_slot_before_it_copies() -> None:
    """On CUDA it tells the allocator, which would give a dropped slot to somebody else while the last copy still runs."""
    known: list[int] = []

    class Knowing(HostLane):
        def use(self, slot: torch.Tensor) -> None:
            known.append(slot.data_ptr())

        def copy(self, slot: torch.Tensor, source: Source) -> None:
            assert slot.data_ptr() in known
            super().copy(slot, source)

    stream = BlockStream(list(load("pocket").branches["conditional"].layers[:3]), torch.device("cpu"), Knowing())
    assert len(known) == streaming.SLOTS
    stream.enter(0)


def test_every_block_is_copied_once_a_round() -> None:
    lane = CountingLane()
    stream = BlockStream(list(load("pocket").branches["conditional"].layers[:4]), torch.device("cpu"), lane)
    for _ in range(3):
        for i in range(4):
            stream.enter(i)
    assert lane.copied == 3 * 4 + 1  # and the first of the next round is on its way


def test_the_device_holds_two_blocks() -> None:
    model = load("pocket")
    blocks = [block for branch in BRANCHES for block in model.branches[branch].layers]
    whole = usage.module_bytes(*(block.get_submodule(part) for block in blocks for part in ("attention", "feed_forward")))
    stream = BlockStream(blocks, torch.device("cpu"))
    now = usage.module_bytes(*(block.get_submodule(part) for block in blocks for part in ("attention", "feed_forward")))
    assert now == stream.device_bytes
    assert whole <= stream.host_bytes < whole + len(blocks) * (1 << 20)
    assert abs(stream.device_bytes / (2 * whole / len(blocks)) - 1) < 0.01


@pytest.mark.parametrize("size", [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20, 290_000_000, 512 << 20])
def test_pinned_memory_is_asked_for_in_powers_of_two_and_not_much_more_than_needed(size: int) -> None:
    pieces = piece_sizes(size)
    assert all(piece & (piece - 1) == 0 for piece in pieces)
    assert pieces == sorted(pieces, reverse=True)
    assert size <= sum(pieces) < size + (1 << 20)


@pytest.mark.parametrize("smallest", [64, 4096, 1 << 16])
def test_blocks_cross_from_piece_to_piece(smallest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pieces smaller than a tensor, and with tensors smaller than a piece."""
    monkeypatch.setattr(streaming, "_SMALLEST_PIECE", smallest)
    expected, streamed = (load("pocket").branches["conditional"].layers[:3] for _ in range(2))
    stream = BlockStream(list(streamed), torch.device("cpu"))
    assert all(len(source) > 1 for source in stream._sources)
    garbage(stream)
    for i in range(3):
        stream.enter(i)
        for (name, found), (_, wanted) in zip(streamed[i].named_buffers(), expected[i].named_buffers(), strict=True):
            assert torch.equal(found.view(torch.uint8), wanted.view(torch.uint8)), name


@pytest.fixture(params=["pocket", "int8"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """A checkpoint, and an artifact of it."""
    if request.param == "int8":
        source = open_source("pocket")
        quantize(source, choose("int8", source.config), tmp_path / "int8")
        return tmp_path / "int8"
    return "pocket"


def test_setting_up_a_plan_holds_one_block_twice_and_no_more(place: str | Path) -> None:
    """Beside what the plan keeps in the computer's memory and on the device: at full size a block is 0.3 GB, a branch 9.3 GB."""
    model = load(place)
    blocks = [block for branch in BRANCHES for block in model.branches[branch].layers]
    parts = [usage.module_bytes(*(block.get_submodule(name) for name in STREAMED)) for block in blocks]
    spare = len(blocks) << 20  # of the last pieces
    added = live_bytes.peak(lambda: model.stream(BRANCHES, torch.device("cpu")))
    assert 2 * max(parts) < added < 4 * max(parts) + spare < sum(parts) + spare


def test_loading_holds_one_layer_twice_and_no_more(place: str | Path) -> None:
    """At full size the largest are w1 and w3 together, 0.45 GB in bfloat16."""
    opened = open_weights(place)
    reader = SourceWeights(opened.branch("conditional")) if isinstance(opened, Checkpoint) else opened.branch("conditional")
    config = load(place).config
    kept: list[nn.Module] = []
    arguments = reader, config, torch.device("cpu"), torch.float32
    most = live_bytes.peak(lambda: kept.append(build_transformer(*arguments)))
    held = usage.module_bytes(*kept)
    layer = 2 * config.intermediate_size * config.hidden_size * 4
    assert most < held + 2 * layer < 2 * held


def test_of_one_block_at_a_time_the_parts_lie_apart(place: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA, parts of all blocks would leave as many holes in the allocator's memory when they are joined."""
    opened, joined = open_weights(place), []
    inner = fusing.adjoin

    def adjoin(layers: tuple[nn.Module, ...]) -> None:
        inner(layers)
        joined.append(layers)

    monkeypatch.setattr(fusing, "adjoin", adjoin)
    reader = SourceWeights(opened.branch("conditional")) if isinstance(opened, Checkpoint) else opened.branch("conditional")
    config, read = load(place).config, []
    joined.clear()

    class Watched:
        """Notes how many blocks were joined when a weight was read."""

        names = reader.names

        def read(self, name: str) -> torch.Tensor:
            read.append((name, len(joined) // 2))
            return reader.read(name)

        def packed(self, name: str) -> object:
            read.append((name, len(joined) // 2))
            return reader.packed(name)

    build_transformer(Watched(), config, torch.device("cpu"), torch.float32)  # type: ignore[arg-type]
    blocks = [(int(name.split(".")[1]), done) for name, done in read if name.startswith("layers.")]
    assert {number for number, _ in blocks} == set(range(config.num_layers))
    assert all(number == done for number, done in blocks)


def test_what_is_not_streamed_moves_to_the_device() -> None:
    model = load("pocket")
    model.stream(("unconditional",), torch.device("meta"))
    transformer = model.branches["unconditional"]
    assert model.device.type == "meta"
    assert {tensor.device.type for tensor in (*transformer.parameters(), *transformer.buffers())} == {"meta"}
    assert {tensor.device.type for tensor in model.branches["conditional"].parameters()} == {"cpu"}


def test_qkv_stay_neighbours() -> None:

    model = load("pocket")
    model.stream(("conditional",), torch.device("cpu"))
    for block in model.branches["conditional"].layers:
        assert all(fusing.joined(layers) is not None for layers in fusing.together(block))


def test_streamed_parts_of_a_gguf_file_become_one(tmp_path: Path) -> None:
    """In the file they lie apart, and stay there."""
    source = open_source("pocket")
    quantize(source, choose("q8_0", source.config), tmp_path / "q8_0")
    model = load(tmp_path / "q8_0")
    block = model.branches["conditional"].layers[0]
    assert fusing.joined(fusing.together(block)[1]) is None
    model.stream(("conditional",), torch.device("cpu"))
    assert all(fusing.joined(layers) is not None for layers in fusing.together(block))


@pytest.mark.parametrize("plan", budget.PLANS, ids=lambda plan: plan.name)
def test_every_plan_paints_the_same(plan: budget.Plan, resident: list[torch.Tensor]) -> None:
    model = load("pocket", plan=plan)
    model.captions = None
    assert all(torch.equal(a, b) for a, b in zip(latents(model, 1), resident, strict=False))
    assert set(model.enter) == set(plan.streamed)


def test_a_streamed_text_encoder_reads_the_same() -> None:
    plain, streamed = load("pocket"), load("pocket", plan=budget.PLANS[2])
    whole = usage.module_bytes(plain.text_encoder)
    expected = text_features(plain.text_encoder, plain.tokenizer, "a red star")
    for _ in range(2):
        assert torch.equal(text_features(streamed.text_encoder, streamed.tokenizer, "a red star"), expected)
    embedding = usage.module_bytes(plain.text_encoder.embed_tokens)
    assert usage.module_bytes(streamed.text_encoder) - embedding < (whole - embedding) / 10
