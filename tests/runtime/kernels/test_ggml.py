"""Linears on ggml's blocks: what they compute, in which precision, and how little memory that takes."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ideogram_q8.builds.packed import GgmlWeight
from ideogram_q8.numerics import ggml, int8
from ideogram_q8.runtime.kernels import ggml_linear, int8_linear, row_scale
from ideogram_q8.runtime.kernels.choosing import workspace
from ideogram_q8.runtime.kernels.linear import ggml as kernel
from ideogram_q8.runtime.kernels.linear import tiles, triton_ggml
from ideogram_q8.runtime.kernels.linear.ggml import expand
from ideogram_q8.runtime.layers.packed import from_packed

OUTPUTS, INPUTS = 134, 512


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoded(name: str, outputs: int = OUTPUTS, inputs: int = INPUTS) -> torch.Tensor:
    return ggml.encode(normal(outputs, inputs) / 20, ggml.BLOCKS[name])


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles and pieces for small weights, none of which divides another."""
    workspace.release()
    monkeypatch.setattr(tiles, "TILE", 60 * INPUTS)
    monkeypatch.setattr(kernel, "PIECE", 7 * INPUTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ggml.BLOCKS)
def test_the_weight_is_rounded_once(name: str, dtype: torch.dtype) -> None:
    data, exact = encoded(name), ggml.decode(encoded(name), ggml.BLOCKS[name])
    out = torch.empty(OUTPUTS, INPUTS, dtype=dtype)
    expand(data, ggml.BLOCKS[name], out)
    assert torch.equal(out, exact.to(dtype))
    x, bias = normal(2, 20, INPUTS, seed=1).to(dtype), normal(OUTPUTS, seed=2)
    y, expected = ggml_linear(x, data, name, bias), functional.linear(x, exact.to(dtype), bias.to(dtype))
    assert y.shape == (2, 20, OUTPUTS) and y.dtype == dtype
    assert (y - expected).float().norm() <= 4 * torch.finfo(dtype).eps * expected.float().norm()  # sums in another order


@pytest.mark.parametrize("name", ggml.BLOCKS)
def test_int8_compute_is_w8a8_on_the_values(name: str) -> None:
    data = encoded(name)
    data[3] = 0
    values = ggml.decode(data, ggml.BLOCKS[name])
    codes, scale = int8.quantize_per_channel(values)
    assert torch.equal(row_scale(data, ggml.BLOCKS[name]), scale)
    out = torch.empty_like(codes)
    expand(data, ggml.BLOCKS[name], out, scale)
    assert torch.equal(out, codes)
    x, bias = normal(2, 20, INPUTS, seed=1), normal(OUTPUTS, seed=2) / 20
    y, exact = ggml_linear(x, data, name, bias, scale), functional.linear(x, values, bias)
    assert torch.equal(y, int8_linear(x, codes, scale, bias))
    # each operand is off by at most half a step, amax / 254
    assert 0 < (y - exact).norm() / exact.norm() < 0.02


def test_few_rows_are_not_quantized() -> None:
    data = encoded("q4_k")
    scale = row_scale(data, ggml.BLOCKS["q4_k"])
    x = normal(32, INPUTS, seed=1)
    assert torch.equal(ggml_linear(x[:31], data, "q4_k", None, scale), ggml_linear(x[:31], data, "q4_k"))
    assert not torch.equal(ggml_linear(x, data, "q4_k", None, scale), ggml_linear(x, data, "q4_k"))


def test_an_empty_batch() -> None:
    assert ggml_linear(normal(0, INPUTS), encoded("q8_0"), "q8_0").shape == (0, OUTPUTS)


def test_every_type_has_a_program() -> None:
    assert triton_ggml.EXPANSIONS.keys() == ggml.BLOCKS.keys()


def test_a_triton_that_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("no C compiler")

    def nothing(*_: object) -> None:
        pass

    kernel._triton_refuses.cache_clear()
    monkeypatch.setattr(kernel.importlib.util, "find_spec", lambda name: name)
    for broken, reason in ((no_compiler, "RuntimeError: no C compiler"), (nothing, "not those of the definition")):
        monkeypatch.setattr(triton_ggml, "expand", broken)
        kernel._triton_refuses.cache_clear()
        assert reason in str(kernel._triton_refuses("q4_k", torch.device("cpu")))
    monkeypatch.setattr(
        triton_ggml, "expand", lambda data, block, out, scale=None: kernel._expand_in_pieces(data, block, out, scale)
    )
    kernel._triton_refuses.cache_clear()
    assert kernel._triton_refuses("q4_k", torch.device("cpu")) is None
    kernel._triton_refuses.cache_clear()


def test_a_full_card_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("17 GiB")

    kernel._triton_refuses.cache_clear()
    monkeypatch.setattr(kernel.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(kernel, "wrong", full)
    with pytest.raises(torch.OutOfMemoryError):
        kernel._triton_refuses("q4_k", torch.device("cpu"))
    monkeypatch.setattr(kernel, "wrong", lambda *_: None)
    assert kernel._triton_refuses("q4_k", torch.device("cpu")) is None
    kernel._triton_refuses.cache_clear()


def test_pieces_are_larger_where_each_operation_is_a_launch() -> None:
    """A load on a card goes over 9 billion values."""
    rows = kernel._rows_of_a_piece(4608, torch.device("cuda"))
    assert 7 * 2**20 < rows * 4608 <= kernel.PIECE_OFF_CPU
    assert kernel._rows_of_a_piece(INPUTS, torch.device("cpu")) == 7


def storages(values: object) -> set[torch.UntypedStorage]:
    return {leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}


class Allocations(TorchDispatchMode):
    """Bytes of the tensors that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self._seen.update(storages((args, kwargs)))  # what was there before
        result = function(*args, **(kwargs or {}))
        for storage in storages(result):
            if storage not in self._seen:
                self._seen.add(storage)
                self.held += storage.nbytes()
                self.peak = max(self.peak, self.held)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size: int) -> None:
        self.held -= size


def peak_of(run: Callable[[], object]) -> int:
    with Allocations() as allocations:
        run()
    return allocations.peak


def stack(count: int, *, in_int8: bool) -> nn.Sequential:
    """Square Linears of 1 MiB in Q8_0, 4 MiB in float32."""
    data = encoded("q8_0", 1024, 1024)
    scale = row_scale(data, ggml.BLOCKS["q8_0"]) if in_int8 else None
    return nn.Sequential(*(from_packed(GgmlWeight(data.clone(), "q8_0", (1024, 1024), scale)) for _ in range(count)))


@pytest.mark.parametrize("in_int8", [False, True])
def test_memory_is_one_workspace_and_one_piece(in_int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tile, piece = 1 << 18, 1 << 16
    monkeypatch.setattr(tiles, "TILE", tile)
    monkeypatch.setattr(kernel, "PIECE", piece)
    x = normal(64, 1024)
    peaks: dict[int, int] = {}
    for count in (1, 8):
        layers = stack(count, in_int8=in_int8)
        workspace.release()
        peaks[count] = peak_of(lambda layers=layers: layers(x))
    kept = 1024 * 1024 if in_int8 else 4 * tile
    assert workspace.held_bytes() == kept
    copies = 4 * 4 * piece + (2 * 4 * tile if in_int8 else 0)  # of a piece, and of a tile for the exact product
    activations = 6 * x.nbytes
    assert kept < peaks[1] <= peaks[8] < kept + copies + activations
    assert peak_of(lambda: layers(x)) < copies + activations  # the workspace is there already


def test_the_workspace_grows_and_is_shared() -> None:
    first = workspace.take((4, 8), torch.float32, torch.device("cpu"))
    assert workspace.take((2, 16), torch.float32, torch.device("cpu")).data_ptr() == first.data_ptr()
    assert workspace.take((2, 16), torch.int8, torch.device("cpu")).data_ptr() != first.data_ptr()
    assert workspace.take((8, 8), torch.float32, torch.device("cpu")).shape == (8, 8)
    assert workspace.held_bytes() == 4 * 64 + 32
    workspace.release()
    assert workspace.held_bytes() == 0


def test_threads_do_not_share_it() -> None:
    mine = workspace.take((64,), torch.float32, torch.device("cpu"))
    theirs = []
    thread = threading.Thread(target=lambda: theirs.append(workspace.take((64,), torch.float32, torch.device("cpu"))))
    thread.start()
    thread.join()
    assert theirs[0].data_ptr() != mine.data_ptr()


def test_one_thread_gives_back_what_others_hold() -> None:
    taken, may_end, left = threading.Event(), threading.Event(), []

    def work() -> None:
        workspace.take((64,), torch.float32, torch.device("cpu"))
        taken.set()
        may_end.wait()
        left.append(workspace.held_bytes())

    thread = threading.Thread(target=work)
    thread.start()
    taken.wait()
    workspace.release()
    may_end.set()
    thread.join()
    assert left == [0]


def test_a_pass_in_inference_mode_may_come_first() -> None:
    x, data = normal(40, INPUTS), encoded("q4_0")
    with torch.inference_mode():
        first = ggml_linear(x, data, "q4_0")
    with torch.no_grad():
        assert torch.equal(ggml_linear(x, data, "q4_0"), first)
