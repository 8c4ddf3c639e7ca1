"""Warnings that the package logs, as whoever runs a command sees them."""

from __future__ import annotations

import logging
import re

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
