"""Which variant a visitor finds picked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.commands import app
from ideogram_q8.ui.engine.fitting import Fit, best

WHOLE, OFFLOADED, NONE = (
    Fit(1, 2, "all", offloads=False),
    Fit(1, 2, "streamed", offloads=True),
    Fit(3, 2, None, offloads=True),
)


@pytest.mark.parametrize(
    ("fits", "name"),
    [
        ({"fp8": WHOLE, "int8": WHOLE, "q4_k_s": WHOLE}, "int8"),
        ({"fp8": WHOLE, "int8": OFFLOADED, "q4_k_s": WHOLE}, "q4_k_s"),
        ({"fp8": WHOLE, "int8": NONE, "q4_k_s": OFFLOADED}, "q4_k_s"),
        ({"fp8": WHOLE, "int8": NONE, "q4_k_s": None}, None),
        ({"fp8": WHOLE}, None),
    ],
)
def test_the_best_that_fits_is_not_the_original(fits: dict[str, Fit | None], name: str | None) -> None:
    assert best(fits) == name


def test_a_variant_that_is_named_is_the_one(tmp_path: Path) -> None:
    assert app.parse(["--outputs", str(tmp_path)]).variant is None
    assert app.parse(["--outputs", str(tmp_path), "--variant", "fp8"]).variant == "fp8"
