"""Warnings that the package logs, as whoever runs a command sees them."""

from __future__ import annotations

import logging
import re
import warnings

import pytest
from tqdm import tqdm

from ideogram_q8.__main__ import main
from ideogram_q8.commands import inspect


def test_a_warning_is_a_line_of_its_own_above_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a log says reaches whoever runs a command, with nothing that a terminal would obey; afterwards nobody listens."""
    log = logging.getLogger("ideogram_q8.runtime.kernels")

    def verb(_: object) -> None:
        with tqdm(total=2, desc="painting") as bar:
            bar.update()
            log.warning("int8 linear: slow; \x1b[2J refused")
            log.info("not for people")

    monkeypatch.setattr(inspect, "run", verb)
    for _ in range(2):
        assert main(["inspect", "pocket"]) == 0
        (line,) = [each for each in re.split(r"[\r\n]", capsys.readouterr().err) if "slow" in each or "not for" in each]
        assert line == "warning: int8 linear: slow; \\x1b[2J refused"
    log.warning("after")
    assert "after" not in capsys.readouterr().err


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning, ResourceWarning, UserWarning])
@pytest.mark.parametrize(
    ("module", "is_ours"),
    [
        ("ideogram_q8", True),
        ("ideogram_q8.ui.page", True),
        ("ideogram_q8.publishing.push", True),
        ("app", True),
        ("tests.ui.conftest", True),
        ("diffusers.models.embeddings", False),
        ("apprise", False),
        ("publisher", False),
    ],
)
def test_a_warning_fails_a_test_where_the_code_is_ours(module: str, is_ours: bool, category: type[Warning]) -> None:
    """What other people's next release deprecates among themselves is listed at the end, and breaks nothing."""
    with warnings.catch_warnings(record=True) as seen:
        try:
            warnings.warn_explicit("old", category, "file.py", 1, module)
        except category:
            assert is_ours and not seen
        else:
            assert not is_ours and len(seen) == 1
