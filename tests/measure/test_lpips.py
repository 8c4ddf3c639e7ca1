"""LPIPS: its definition on random weights, the published network where its package is installed, and a file that nothing can hide in."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from ideogram_q8.errors import RequestError
from ideogram_q8.measure import lpips

needs_weights = pytest.mark.skipif(lpips.find() is None, reason=f"{lpips.PACKAGE} is not installed: {lpips.REMEDY}")


def random_weights() -> lpips.Weights:
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(shape, generator=random) / shape[1], torch.zeros(shape[0]), torch.rand(shape[0], generator=random))
        for shape in lpips._SHAPES
    ]


def picture(seed: int, size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def test_the_distance_is_its_formula_for_the_first_layer() -> None:
    kernel, bias, head = random_weights()[0]
    a, b = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (1, 2))
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (lpips._MEAN, lpips._DEVIATION))
    maps = [functional.relu(functional.conv2d((x - mean) / deviation, kernel, bias, 4, 2)) for x in (a, b)]
    units = [m / m.norm(dim=1, keepdim=True) for m in maps]
    expected = torch.einsum("bchw,c->bhw", (units[0] - units[1]) ** 2, head).mean((1, 2))
    assert lpips.distances(a, b, [(kernel, bias, head)]) == pytest.approx(expected, abs=1e-5)


def test_equal_pictures_are_at_distance_0_and_order_does_not_count() -> None:
    distance = lpips.metric(random_weights())
    assert distance(picture(1), picture(1)) == 0
    assert distance(picture(1), picture(2)) == pytest.approx(distance(picture(2), picture(1)), rel=1e-5)


@pytest.mark.parametrize("other", [picture(1, 48), picture(1, 64).resize((64, 20))])
def test_pictures_that_cannot_be_compared_are_refused(other: Image.Image) -> None:
    with pytest.raises(RequestError, match="LPIPS compares pictures of one size"):
        lpips.metric(random_weights())(picture(1), other)


def test_the_smallest_picture_is_the_smallest() -> None:
    lpips.metric(random_weights())(picture(1, lpips.SMALLEST), picture(2, lpips.SMALLEST))
    with pytest.raises(RuntimeError):
        lpips.distances(*(torch.zeros(1, 3, lpips.SMALLEST - 1, lpips.SMALLEST - 1),) * 2, random_weights())


def test_another_file_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({}))
    with pytest.raises(RequestError, match="has sha256 .*expected 443c5bc35326"):
        lpips.read_weights(tmp_path / "alexnet.ckpt")


def test_nothing_but_arrays_comes_out_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self):
            return (Path(tmp_path / "owned").touch, ())

    content = pickle.dumps(Evil())
    (tmp_path / "alexnet.ckpt").write_bytes(content)
    monkeypatch.setattr(lpips, "SHA256", lpips.hashlib.sha256(content).hexdigest())
    with pytest.raises(RequestError, match="which is no array"):
        lpips.read_weights(tmp_path / "alexnet.ckpt")
    assert not (tmp_path / "owned").exists()


@needs_weights
def test_the_published_network_sees_what_people_see() -> None:
    """Noise that can be seen counts more than noise that cannot, and a black picture is far from a white one."""
    distance = lpips.metric(lpips.read_weights(lpips.find()))
    base = np.kron(np.random.default_rng(5).integers(40, 200, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.int16)

    def noisy(deviation: float) -> Image.Image:
        noise = np.random.default_rng(6).normal(0, deviation, base.shape)
        return Image.fromarray(np.clip(base + noise, 0, 255).astype(np.uint8))

    found = [distance(noisy(0), noisy(deviation)) for deviation in (0, 2, 10, 40)]
    assert found[0] == 0 and found[1] < 0.05 and found == sorted(found) and found[3] > 0.3
