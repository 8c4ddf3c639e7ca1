"""`calibrate` and `merge-stats` from the command line, on the pocket at its smallest size."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ideogram_q8.captions.calibration import named_captions
from ideogram_q8.commands import calibrate
from ideogram_q8.errors import IdeogramQ8Error, RequestError
from ideogram_q8.recipes.statistics import read


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    calibrate.add(parser.add_subparsers(required=True))
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.verb(parsed)


def captions(folder: Path, *texts: str) -> Path:
    path = folder / "captions.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_two_machines_and_a_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, caption in zip("ab", named_captions("pocket")[:2], strict=True):
        given = captions(tmp_path, caption)
        out = tmp_path / f"{name}.safetensors"
        run(
            "calibrate",
            "pocket",
            "--captions",
            given,
            "--out",
            out,
            "--preset",
            "turbo-12",
            "--size",
            "64x64",
            "--sample-rows",
            4,
        )
        assert f"{out}: 63 Linears, 1 captions of 12 steps at 64x64" in capsys.readouterr().out
    parts = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    run("merge-stats", *parts, "--out", tmp_path / "c.safetensors")
    found = read(tmp_path / "c.safetensors")
    assert set(found.calibration.captions) == {caption for part in parts for caption in read(part).calibration.captions}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
        "captions.txt",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "stats.json"], "expected a file name that ends with .safetensors"),
        (["--out", "none/stats.safetensors"], "there is no folder"),
        (["--out", "there.safetensors"], "is there already; use --overwrite"),
        (["--out", "new.safetensors", "--offload"], "use it with --device cuda"),
        (["--out", "new.safetensors", "--size", "big"], "size is 'big'"),
        (["--out", "new.safetensors", "--captions", "none"], "expected a file with a caption a line"),
        (["--out", "new.safetensors", "--size", "72x64"], "width is 72"),
        (["--out", "new.safetensors", "--sample-rows", "0"], "sample rows are 0"),
    ],
)
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").touch()
    with pytest.raises(IdeogramQ8Error, match=message):
        run("calibrate", "pocket", "--captions", captions(tmp_path, "a red star"), *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.txt", "there.safetensors"]


@pytest.mark.parametrize(("name", "count"), [("pocket", 32), ("ideogram-calibration", 128)])
def test_a_name_stands_for_captions_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int):
    asked: list[tuple[str, ...]] = []

    def stop(captions: tuple[str, ...], **options: object) -> None:
        asked.append(captions)
        raise RequestError("enough")

    monkeypatch.setattr(calibrate, "_painting", lambda arguments, size: stop)
    with pytest.raises(RequestError, match="enough"):
        run("calibrate", "pocket", "--captions", name, "--out", tmp_path / "s.safetensors")
    assert asked == [named_captions(name)] and len(asked[0]) == count


def test_a_strange_caption_is_run_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    element = '{"type":"text","text":"","desc":"red letters"}'
    given = captions(tmp_path, f'{{"compositional_deconstruction":{{"background":"","elements":[{element}]}}}}')
    with pytest.raises(IdeogramQ8Error):
        run("calibrate", "pocket", "--captions", given, "--out", tmp_path / "s.safetensors", "--sample-rows", 0)
    assert "warning: caption 1: " in capsys.readouterr().err
