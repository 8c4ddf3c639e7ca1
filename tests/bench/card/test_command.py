"""`bench card` at the command line: what is refused is one line."""

from __future__ import annotations

import signal

import pytest
import torch

from ideogram_q8.__main__ import main
from ideogram_q8.bench.card import run
from ideogram_q8.bench.card.phases import PHASES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rehearse", "--seconds", "0"], "--seconds is 0; expected 1 to 86400"),
        (["--rehearse", "--seconds", "nan"], "--seconds is nan; expected 1 to 86400"),
        (["--rehearse", "--phases", "speed"], "--phases has 'speed'; expected names of hardware, trials"),
    ],
)
def test_what_is_refused_is_one_line(arguments, message, capsys, tmp_path):
    assert main(["bench", "card", "--out", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_a_card_a_rehearsal_is_offered(capsys, tmp_path):
    assert main(["bench", "card", "--out", str(tmp_path / "run")]) == 2
    assert "torch finds no NVIDIA card here" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_file_is_no_folder(capsys, tmp_path):
    (tmp_path / "run").touch()
    assert main(["bench", "card", "--rehearse", "--out", str(tmp_path / "run")]) == 2
    assert "which is no folder" in capsys.readouterr().err


def test_named_phases_run_in_their_order_and_again(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(run, "measure", lambda *given: asked.append(given))
    assert main(["bench", "card", "--rehearse", "--out", str(tmp_path), "--phases", "tune, hardware"]) == 0
    assert main(["bench", "card", "--rehearse", "--out", str(tmp_path)]) == 0
    (_, _, rehearse, named, again, _), (_, seconds, _, every, once, _) = asked
    assert [phase.name for phase in named] == ["hardware", "tune"] and rehearse and again
    assert every == PHASES and not once and seconds == 450
    assert "| aim " in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_a_run_tells_what_was_measured(number, monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        signal.raise_signal(number)

    monkeypatch.setattr(run, "measure", interrupted)
    assert main(["bench", "card", "--rehearse", "--out", str(tmp_path)]) == 130
    assert "| aim " in capsys.readouterr().out and (tmp_path / "card.md").exists()
