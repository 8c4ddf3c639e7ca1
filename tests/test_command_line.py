"""The command line: its verbs on real files, its refusals, its exit codes."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from ideogram_q8 import __main__ as command_line
from ideogram_q8.captions import to_caption
from ideogram_q8.commands import generate, inspect
from ideogram_q8.errors import RequestError, SourceError, printable
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.runtime.loading import model
from ideogram_q8.runtime.loading.model import Model, load
from ideogram_q8.sources import open_source
from tests.synthetic import WIDE_HEAD, write_source

SENTENCE = "a red star on a white background"
FAULTY = json.dumps({"elements": [{"type": "obj", "desc": "a star", "color_palette": ["red"]}]})


def run(*arguments: object) -> int:
    return command_line.main([str(argument) for argument in arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that must be refused; returns its one line without the prefix."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").strip()


# ---- what works ----


class Bar:
    """Stands in for tqdm and remembers how far it got."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, **_: object) -> None:
        self.n, self.total = 0, 0
        self.made.append(self)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: int) -> None:
        self.n += count


def test_progress_ends_at_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tqdm.tqdm", Bar)
    assert run("quantize", write_source(tmp_path / "source"), "--scheme", "int8", "--out", tmp_path / "artifact") == 0
    assert Bar.made[-1].n == Bar.made[-1].total > 0


@pytest.mark.parametrize(("preset", "loaded"), [("instant-8", ["conditional"]), ("custom-2-g3", list(BRANCHES))])
def test_without_guidance_one_transformer_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, loaded: list[str]
) -> None:
    models: list[Model] = []
    monkeypatch.setattr(model, "load", lambda *given, **named: (models.append(load(*given, **named)), models[-1])[1])
    assert (
        run("generate", "pocket", "--caption", SENTENCE, "--preset", preset, "--size", "64", "--out", tmp_path / "x.png") == 0
    )
    assert list(models[0].branches) == list(models[0].schemes) == loaded


def test_a_source_is_quantized_and_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, out = write_source(tmp_path / "source"), tmp_path / "artifact"
    assert run("quantize", source, "--scheme", "int8", "--out", out) == 0
    assert capsys.readouterr().out.startswith(f"{out}: int8, ")

    assert run("inspect", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["variant"], found["source"]) == ("artifact", "int8", str(source))
    assert {file["branch"] for file in found["files"].values()} == {"conditional", "unconditional"}
    assert all((out / name).stat().st_size == file["bytes"] for name, file in found["files"].items())

    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert str(out) in refusal(capsys, "quantize", source, "--scheme", "int8", "--out", out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert run("quantize", source, "--scheme", "q8_0", "--out", out, "--overwrite") == 0
    capsys.readouterr()
    assert run("inspect", out) == 0
    assert "variant: q8_0\n" in capsys.readouterr().out


def test_a_source_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = write_source(tmp_path)
    assert run("inspect", source, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["name"], found["default_size"]) == ("source", "Tiny", "64x64")
    assert run("inspect", source) == 0
    text = capsys.readouterr().out
    assert "kind: source\n" in text
    assert "  num_layers: 2\n" in text


def test_the_embedded_model_paints_the_same_picture_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from PIL import Image

    caption_file = tmp_path / "caption.json"
    caption = {
        "compositional_deconstruction": {
            "background": "plain white",
            "elements": [{"type": "obj", "bbox": [250, 250, 250, 750], "desc": "a red star"}],
        }
    }
    caption_file.write_text(json.dumps(caption, indent=2), encoding="utf-8")
    pictures = tmp_path / "first.png", tmp_path / "second.png"
    for path in pictures:
        arguments = ("--caption", caption_file, "--seed", 7, "--preset", "turbo-12", "--out", path)
        assert run("generate", "pocket", *arguments) == 0
        captured = capsys.readouterr()
        assert captured.out.startswith(f"{path}: ")
        assert "12/12" in captured.err
        assert f"warning: compositional_deconstruction.elements[0].bbox: {[250, 250, 250, 750]} has no area" in captured.err
    assert pictures[0].read_bytes() == pictures[1].read_bytes()

    assert run("inspect", pictures[0], "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads(found["caption"]) == caption
    assert (found["kind"], found["variant"], found["seed"], found["preset"]) == ("picture", "fp8", 7, "turbo-12")
    with Image.open(pictures[0]) as picture:
        assert picture.size == (found["width"], found["height"])


def test_help_is_there_before_torch():
    code = """
import sys
from ideogram_q8.__main__ import main
for verb in ([], ["quantize"], ["generate"], ["inspect"]):
    try:
        main([*verb, "--help"])
    except SystemExit as end:
        assert end.code == 0
assert main(["generate", "pocket", "--caption", "{", "--out", "x.png"]) == 2
assert not {"torch", "numpy", "PIL", "tqdm"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--scheme" in done.stdout


def test_a_gguf_build_can_be_shaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, out = write_source(tmp_path / "source"), tmp_path / "artifact"
    shape = ("--rule", "layers.*.attention.o=q6_k", "--rule", "layers.0.attention.o=f16", "--architecture", "ideogram")
    assert run("quantize", source, "--scheme", "q4_k_s", *shape, "--split-size", "0.0011", "--out", out) == 0
    assert capsys.readouterr().out.startswith(f"{out}: q4_k_s-rules, ")
    assert min(path.name for path in out.glob("*.gguf")) == "ideogram4-Q4_K_S-00001-of-00002.gguf"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    stored = {tensor["name"]: tensor["dtype"] for tensors in manifest["tensors"].values() for tensor in tensors}
    assert (stored["layers.0.attention.o.weight"], stored["layers.1.attention.o.weight"]) == ("F16", "Q6_K")


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "VERB; see python -m ideogram_q8 --help"),
        (["paint"], "invalid choice: 'paint'"),
        (["quantize", "pocket", "--out", "x"], "--scheme --recipe is required; see python -m ideogram_q8 quantize --help"),
        (["quantize", "pocket", "--scheme", "int4", "--out", "x"], "invalid choice: 'int4'"),
        (["quantize", "pocket", "--scheme", "int8", "--rule", "*=q8_0", "--out", "x"], "a rule names a GGUF type"),
        (["quantize", "pocket", "--scheme", "int8", "--split-size", "2", "--out", "x"], "are for GGUF files"),
        (["quantize", "pocket", "--scheme", "q8_0", "--split-size", "nan", "--out", "x"], "--split-size is nan; expected"),
        (
            ["quantize", "pocket", "--scheme", "q8_0", "--architecture", "A B", "--out", "x"],
            "expected a short name in lower case",
        ),
        (["quantize", "pocket", "--scheme", "int8", "--importance", "x", "--out", "x"], "--importance is for GGUF"),
        (
            ["quantize", "pocket", "--scheme", "q4_k_m", "--importance", "none", "--out", "x"],
            "none is not a whole safetensors file",
        ),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--preset", "fast"], "unknown preset 'fast'"),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--seed", "one"], "invalid int value: 'one'"),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--size", "128x"], "expected WIDTHxHEIGHT"),
        (
            ["generate", "pocket", "--caption", "a", "--out", "x.jpg"],
            "--out is x.jpg; expected a file name that ends with .png",
        ),
        (["generate", "pocket", "--caption", "a", "--out", "no/x.png"], "there is no folder no; make it"),
        (["generate", "pocket", "--caption", "", "--out", "x.png"], "caption is empty"),
        (["generate", "pocket", "--caption", "{}", "--out", "x.png"], "the key compositional_deconstruction is missing"),
        (["generate", "pocket", "--caption", "poster.json", "--out", "x.png"], "poster.json: there is no such caption file"),
        (["generate", "nowhere", "--caption", "a", "--out", "x.png"], "nowhere"),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--seed", "-1"], "seed is -1"),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--size", "100x128"], "width is 100"),
        (["generate", "pocket", "--caption", "a", "--out", "x.png", "--size", "4096x4096"], "width is 4096"),
        (["quantize", "nowhere", "--scheme", "int8", "--out", "x"], "nowhere"),
        (["inspect", "nowhere"], "nowhere"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert expected in refusal(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, out = write_source(tmp_path / "source"), tmp_path / "artifact"
    weights = source / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert str(weights) in refusal(capsys, "quantize", source, "--scheme", "int8", "--out", out)
    assert not out.exists()


def test_all_that_is_wrong_with_a_checkpoint_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def spoil(tensors):
        return {name: value for name, value in tensors.items() if not name.endswith(".bias")} | {"odd": torch.zeros(1)}

    source = write_source(tmp_path / "source", convert=spoil)
    with pytest.raises(SourceError) as caught:
        open_source(source)
    assert len(caught.value.problems) > 10
    assert run("inspect", source) == 2
    *listed, last = capsys.readouterr().err.splitlines()
    assert listed == [printable(problem) for problem in caught.value.problems]
    assert last == f"error: {caught.value}"


def test_a_pair_of_files_is_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = write_source(tmp_path, WIDE_HEAD)
    one, two = (
        source / folder / "diffusion_pytorch_model.safetensors" for folder in (COMPONENT_FOLDERS[branch] for branch in BRANCHES)
    )
    assert run("inspect", one, "--unconditional", two, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["location"], found["transformer"]) == ("source", str(one), WIDE_HEAD.to_json())
    assert "has no revision 'main'" in refusal(capsys, "inspect", source, "--revision", "main")


@pytest.mark.parametrize(
    ("options", "expected"),
    [(("--seed", -1), "seed is -1"), (("--size", "100x64"), "width is 100"), ((), "cannot read|has no folder text_encoder")],
)
def test_a_wish_that_cannot_be_honoured_is_refused_before_anything_is_loaded(
    options, expected, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    source = write_source(tmp_path / "source")  # of transformers alone: loading it fails
    monkeypatch.setattr("ideogram_q8.runtime.loading.model.build_transformer", lambda *_: None)
    assert re.search(
        expected, refusal(capsys, "generate", source, "--caption", "a star", "--out", tmp_path / "x.png", *options)
    )
    assert run("quantize", source, "--scheme", "int8", "--out", tmp_path / "artifact") == 0
    capsys.readouterr()
    artifact = tmp_path / "artifact"
    assert re.search(
        expected, refusal(capsys, "generate", artifact, "--caption", "a star", "--out", tmp_path / "x.png", *options)
    )


def test_a_stranger_to_inspect_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = tmp_path / "notes.png"
    text.write_text("no picture", encoding="utf-8")
    assert "not a PNG file" in refusal(capsys, "inspect", text)


# ---- what goes wrong on the way ----


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    def install(error: BaseException) -> None:
        def verb(_: object) -> None:
            raise error

        monkeypatch.setattr(inspect, "run", verb)

    return install


def test_an_error_of_many_lines_becomes_one(failing, capsys: pytest.CaptureFixture[str]):
    failing(SourceError("two problems:\n  first\n  second"))
    assert refusal(capsys, "inspect", "pocket") == "two problems: first second"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_full_or_closed_disk_is_a_refusal(number: int, failing, capsys: pytest.CaptureFixture[str]):
    failing(OSError(number, "the reason", "/disk/file"))
    assert refusal(capsys, "inspect", "pocket") == "/disk/file: the reason; free space or choose another place"


def test_ctrl_c_exits_with_130(failing, capsys: pytest.CaptureFixture[str]):
    failing(KeyboardInterrupt())
    assert run("inspect", "pocket") == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("defect", [ValueError("a defect"), OSError(errno.EBADF, "a defect")])
def test_a_defect_is_not_hidden(defect: Exception, failing):
    failing(defect)
    with pytest.raises(type(defect), match="a defect"):
        run("inspect", "pocket")


# ---- captions ----


def test_a_caption_is_read_from_a_file_or_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("caption.txt").write_bytes("\ufeffein Café".encode())
    assert generate.read_caption("caption.txt") == "ein Café"
    for text in (SENTENCE, "a file named poster.json", "x" * 5000, "a\0b", ""):
        assert generate.read_caption(text) == text


@pytest.mark.parametrize(
    "argument",
    [
        "no such/captoin.json",
        "captoin.json",
        "captions.YAML",
        "./one",
        "../a/b",
        "/nowhere/none",
        "~/poster.txt",
        "C:\\a\\b.txt",
        "a/b c.txt",
    ],
)
def test_a_path_that_is_not_there_is_no_sentence(argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="there is no such caption file"):
        generate.read_caption(argument)


@pytest.mark.parametrize(
    "text", ["24/7 neon sign", "and/or", "a sign: ./run me", "/imagine a red house", '{"a": "b/c.json"}', "poster.jpg", "..."]
)
def test_a_sentence_is_no_path(text: str):
    assert generate.read_caption(text) == text


@pytest.mark.parametrize(
    ("text", "options", "code", "printed"),
    [
        (SENTENCE, [], 0, [SENTENCE]),
        (f"```\n{to_caption(SENTENCE)}\n```", [], 1, ["caption: a code fence is taken out", to_caption(SENTENCE)]),
        (FAULTY, [], 1, ["the colour is #FF0000, was 'red'", "it can be mended", "elements: moved to"]),
        (FAULTY, ["--mend"], 1, ["the colour is #FF0000, was 'red'", '"color_palette":["#FF0000"]']),
        (FAULTY.replace("red", "reddish"), ["--mend"], 2, ["fault: ", "elements[0].color_palette[0]: got 'reddish'"]),
        ("{", ["--mend"], 2, ["not valid JSON", "error: not a caption"]),
    ],
)
def test_the_verb_caption_prints_faults_with_their_places(
    text: str, options: list[str], code: int, printed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "caption.json"
    path.write_text(text, encoding="utf-8")
    assert run("caption", path, *options) == run("caption", text, *options) == code
    captured = capsys.readouterr()
    for part in printed:
        assert part in captured.out + captured.err
    lines = captured.out.splitlines()
    assert len(lines) == 2 * (code < 2 and "it can be mended" not in captured.err)
    assert run("caption", path, "--mend", "--json") == code
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == {0: "sound", 1: "mended", 2: "refused"}[code] and (found["caption"] is None) == (code == 2)
    if found["caption"] is not None:
        assert run("caption", found["caption"]) == 0
        assert capsys.readouterr().out.strip() == found["caption"]


def test_pixels_need_a_size(capsys: pytest.CaptureFixture[str]):
    text = '{"compositional_deconstruction":{"background":"","elements":[{"type":"obj","bbox":[0,0,1024,512],"desc":"x"}]}}'
    assert run("caption", text, "--mend") == 2
    assert "--size WxH" in capsys.readouterr().err
    assert run("caption", text, "--mend", "--size", "1024x2048") == 1
    assert "[0,0,500,500]" in capsys.readouterr().out
    for size in ("0x10", "big"):
        assert "expected" in refusal(capsys, "caption", text, "--size", size)


def test_all_faults_of_a_caption_are_shown_and_the_mend_is_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "caption.json"
    path.write_text(FAULTY, encoding="utf-8")
    assert run("generate", "pocket", "--caption", path, "--out", tmp_path / "x.png") == 2
    *faults, last = capsys.readouterr().err.splitlines()
    assert len(faults) == 2 and "elements" in faults[0] and "compositional_deconstruction is missing" in faults[1]
    assert last.startswith("error: caption is not valid: ") and "(and 1 more)" in last and " --mend" in last


def test_a_caption_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "caption.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="not UTF-8 text"):
        generate.read_caption(str(path))


def test_a_huge_caption_file_is_not_read_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "caption.txt"
    path.write_bytes(b"x" * 10_000_000)
    assert "characters; expected at most" in refusal(capsys, "generate", "pocket", "--caption", path, "--out", "x.png")
