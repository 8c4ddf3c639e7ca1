"""Captions for calibration: three forms of file, each line checked, and the pocket's own, which evaluation never sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ideogram_q8.captions import calibration as captions
from ideogram_q8.captions import canonical, lint, parse, to_caption
from ideogram_q8.captions.calibration import NAMED, named_captions, read_captions
from ideogram_q8.captions.suite import get
from ideogram_q8.errors import CaptionError, RequestError
from ideogram_q8.pocket.data import HELD_OUT_WORDS, held_out_scenes
from ideogram_q8.pocket.tokenizer import caption_text

OBJECT = json.loads(to_caption("a blue star"))


def test_the_pockets_captions_are_fixed_and_not_those_of_evaluation():
    found = named_captions("pocket")
    assert len(found) == len(set(found)) == 32
    assert not set(found) & {caption_text(scene) for scene in held_out_scenes(1000)}
    assert not any(f'"text":"{word}"' in caption or f" {word} " in caption for word in HELD_OUT_WORDS for caption in found)
    assert all(canonical(caption) == caption and not lint(parse(caption)) for caption in found)


def test_the_names_mean_suites_that_evaluation_does_not_measure_with():
    assert set(NAMED) == {"pocket", "ideogram-calibration"}
    found = named_captions("ideogram-calibration")
    assert len(set(found)) == 128
    assert not set(found) & {case.caption for case in get("ideogram").cases}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([OBJECT, "a red house"], indent=2),
        f'{json.dumps(OBJECT)}\n"a red house"\n',
        "a blue star\r\n\r\n  a red house",
        "\ufeffa blue star\na red house\n",
    ],
)
def test_all_forms_give_the_same_captions(tmp_path: Path, text: str):
    (tmp_path / "captions").write_text(text, encoding="utf-8")
    assert read_captions(tmp_path / "captions") == (to_caption("a blue star"), to_caption("a red house"))


PRETTY = json.dumps(OBJECT, indent=2)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{PRETTY}\n```",
        f"<think>a star?</think>\n{PRETTY}",
        f"// first\n{json.dumps(OBJECT)}",
        f"Here it is:\n{PRETTY}\nEnjoy!",
        f"```\n[{json.dumps(OBJECT)}]\n```",
        json.dumps(json.dumps(OBJECT)),
        json.dumps({"prompt": "a blue star"}),
        "high_level_description: a blue star\ncompositional_deconstruction:\n  background: ''\n  elements: []\n",
        PRETTY,
    ],
)
def test_a_file_of_one_caption_in_something_else(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture):
    (tmp_path / "captions").write_text(text, encoding="utf-8")
    assert read_captions(tmp_path / "captions") == (to_caption("a blue star"),)
    assert bool(caplog.records) == (text not in (PRETTY, json.dumps(json.dumps(OBJECT))))


def test_a_fault_that_can_be_mended_says_so(tmp_path: Path):
    (tmp_path / "captions").write_text(json.dumps({"high_level_description": "x", "elements": []}), encoding="utf-8")
    with pytest.raises(CaptionError, match="line 1: caption is not valid: .*--mend") as refusal:
        read_captions(tmp_path / "captions")
    assert len(refusal.value.problems) == 2


def test_a_sentence_may_start_with_a_quotation_mark(tmp_path: Path):
    (tmp_path / "captions").write_text('"OPEN" in red\n', encoding="utf-8")
    assert read_captions(tmp_path / "captions") == (to_caption('"OPEN" in red'),)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", RequestError, "has no captions"),
        (b"[]", RequestError, "has no captions"),
        (b"[1]", RequestError, "item 1 is '1'; expected a caption object or a sentence"),
        (b"[", RequestError, "not valid JSON"),
        (b"a star\n{\n", CaptionError, "line 2: caption is not valid JSON"),
        (b'{"elements": []}', CaptionError, "line 1: caption is not valid"),
        (b'[{"elements": []}]', CaptionError, "item 1: caption is not valid"),
        (b"a star\n\na star", RequestError, "line 3 repeats line 1"),
        (b"\xff\xfe", RequestError, "not UTF-8"),
        (b"x" * 40_000, CaptionError, "line 1: caption has 40000 characters"),
    ],
)
def test_what_is_no_caption_is_refused_with_its_place(tmp_path: Path, content: bytes, error: type[Exception], message: str):
    (tmp_path / "captions").write_bytes(content)
    with pytest.raises(error, match=message):
        read_captions(tmp_path / "captions")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(RequestError, match="expected a file with a caption a line"):
            read_captions(path)
    monkeypatch.setattr(captions, "MAX_BYTES", 10)
    (tmp_path / "long").write_bytes(b"a red star")
    assert len(read_captions(tmp_path / "long")) == 1
    (tmp_path / "long").write_bytes(b"a red star!")
    with pytest.raises(RequestError, match="is larger than"):
        read_captions(tmp_path / "long")
