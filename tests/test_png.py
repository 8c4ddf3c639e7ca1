"""Metadata survive the file; damaged or hostile files give one-line errors."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ideogram_q8.errors import RequestError
from ideogram_q8.formats import png

METADATA: dict[str, object] = {
    "caption": '{"high_level_description":"a café \\u2603 \U0001f431"}',
    "variant": "int8",
    "artifact_sha256": "ab" * 32,
    "seed": 2**53 + 1,
    "preset": "turbo-12",
    "width": 16,
    "height": 32,
    "versions": {"torch": "2.13.0"},
}


def picture() -> Image.Image:
    return Image.new("RGB", (16, 32), (200, 10, 30))


def with_text(path: Path, text: str, compressed: bool = False) -> Path:
    info = PngInfo()
    info.add_itxt(png.KEYWORD, text, zip=compressed)
    picture().save(path, pnginfo=info)
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    png.write_png(path, picture(), METADATA)
    assert png.read_metadata(path) == METADATA
    with Image.open(path) as image:
        assert image.getpixel((3, 3)) == (200, 10, 30)
        assert json.loads(image.info[png.KEYWORD]) == METADATA
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_replaces_an_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    png.write_png(path, picture(), METADATA)
    assert png.read_metadata(path)["seed"] == 2**53 + 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        png.write_png(tmp_path / "a.png", picture(), METADATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "1"}, "seed is '1', expected an integer"),
        ({"seed": True}, "seed is True, expected an integer"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"versions": {"torch": 2}}, r"versions\['torch'\] is 2, expected text"),
        ({"caption": "x" * png.MAX_METADATA_BYTES}, "expected at most"),
    ],
)
def test_metadata_are_strict_when_written_and_read(tmp_path: Path, change: dict[str, object], message: str) -> None:
    values = METADATA | change
    with pytest.raises(RequestError, match=message):
        png.write_png(tmp_path / "a.png", picture(), values)
    with pytest.raises(RequestError, match=message if "caption" not in change else "bytes, expected at most"):
        png.read_metadata(with_text(tmp_path / "b.png", json.dumps(values)))
    assert not (tmp_path / "a.png").exists()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = {name: value for name, value in METADATA.items() if name != "preset"}
    with pytest.raises(RequestError, match="key 'preset' is missing"):
        png.write_png(tmp_path / "a.png", picture(), values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected an object"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"seed":NaN}', "NaN is not JSON"),
        ('{"seed":1,"seed":2}', "given twice"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        png.read_metadata(with_text(tmp_path / "a.png", text))


def test_a_compressed_chunk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="compressed"):
        png.read_metadata(with_text(tmp_path / "a.png", "{" + " " * 10_000_000, compressed=True))


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    picture().save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    chunk = b"iTXt" + png.KEYWORD.encode() + b"\0\0\0\0\0{}"
    damaged = png._SIGNATURE + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk) ^ 1)
    (tmp_path / "damaged.png").write_bytes(damaged)
    (tmp_path / "huge.png").write_bytes(png._SIGNATURE + struct.pack(">I", 2**31 - 1) + chunk)
    (tmp_path / "cut.png").write_bytes(png._SIGNATURE + b"\0\0")
    expected = {
        "plain": "no ideogram_q8 chunk",
        "text": "not a PNG",
        "damaged": "damaged",
        "huge": "expected at most",
        "cut": "ends inside",
        "missing": "cannot be read",
    }
    for name, message in expected.items():
        with pytest.raises(RequestError, match=message):
            png.read_metadata(tmp_path / f"{name}.png")


def test_half_a_surrogate_pair_is_neither_written_nor_read(tmp_path: Path) -> None:
    """JSON can name one, and an answer of the server that holds one cannot be sent."""
    with pytest.raises(RequestError, match="not UTF-8"):
        png.write_png(tmp_path / "a.png", picture(), METADATA | {"caption": "a \ud83d"})
    text = json.dumps(METADATA | {"caption": "a \ud83d"})
    assert "\\ud83d" in text
    with pytest.raises(RequestError, match="half of a UTF-16 surrogate pair"):
        png.read_metadata(with_text(tmp_path / "b.png", text))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a folder"):
        png.write_png(tmp_path / "no" / "a.png", picture(), METADATA)
