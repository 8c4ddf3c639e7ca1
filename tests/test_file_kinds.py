"""What is given in place of weights is called what it is, and nothing that is no regular file is waited for."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ideogram_q8.builds.reader import read_manifest
from ideogram_q8.commands.quantize import read_recipe
from ideogram_q8.errors import ArtifactError, IdeogramQ8Error, RequestError, SourceError
from ideogram_q8.formats import file_kinds
from ideogram_q8.formats.gguf_header import read_header as read_gguf
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.formats.png import read_metadata
from ideogram_q8.formats.stored import read_header as read_safetensors
from ideogram_q8.formats.text import read_json
from ideogram_q8.runtime.memory.usage import weight_bytes
from tests.gguf_files import assemble

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9289792888\n"
PAGE = b"\n<!DOCTYPE html>\n<html class=''><head><title>Hugging Face</title>"
BOM = b"\xef\xbb\xbf"


def torch_file() -> bytes:
    found = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, found)
    return found.getvalue()


def archive() -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as file:
        file.writestr("weights/model.safetensors", "x")
    return found.getvalue()


def packed() -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w:gz"):
        pass
    return found.getvalue()


KINDS = {
    "empty": (b"", "empty"),
    "pointer": (POINTER, "a Git-LFS pointer"),
    "page": (PAGE, "a web page"),
    "page with a comment": (b"<!-- saved -->\n<html>", "a web page"),
    "feed": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "a web page"),
    "answer": (b'{"error":"Repository not found"}', "a JSON text"),
    "checkpoint": (torch_file(), "a PyTorch checkpoint (a pickle in a ZIP archive)"),
    "pickle": (pickle.dumps({"a": 1}), "a Python pickle"),
    "old checkpoint": (pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), "a Python pickle"),
    "zip": (archive(), "an archive"),
    "tar": (packed(), "an archive"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG picture"),
    "photo": (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG picture"),
    "old ggml": (b"tjgg\x03\0\0\0" + bytes(20), "a file of ggml before GGUF"),
    "hole": (bytes(5000), "zeros at its beginning"),
}
SAFETENSORS, GGUF = save({"a": torch.zeros(2)}), assemble()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("reader", [read_safetensors, read_gguf])
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, reader: Callable[[Path], object], name: str):
    content, what = KINDS[name]
    path = tmp_path / "weights"
    path.write_bytes(content)
    with pytest.raises((SourceError, ArtifactError)) as caught:
        reader(path)
    kind = file_kinds.of(content)
    assert kind is not None and kind.what.startswith(what)
    if (reader, name) == (read_gguf, "empty"):
        what = "it ends early"
    assert what in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert kind.remedy in str(caught.value)
    if kind.remedy != file_kinds.AGAIN:
        assert "download it again" not in str(caught.value)


def test_one_kind_of_weights_in_the_place_of_the_other(tmp_path):
    (tmp_path / "a").write_bytes(SAFETENSORS)
    (tmp_path / "b").write_bytes(GGUF)
    with pytest.raises(ArtifactError, match=r"is not a whole GGUF file: it is a safetensors file; name it with \.safetensors"):
        read_gguf(tmp_path / "a")
    with pytest.raises(SourceError, match=r"is not a whole safetensors file: it is a GGUF file; name it with \.gguf"):
        read_safetensors(tmp_path / "b")
    assert file_kinds.of_file(tmp_path / "a") == file_kinds.of(SAFETENSORS)


@pytest.mark.parametrize("content", [b"\x01" * 40, b"a sentence", SAFETENSORS[8:9] * 3 + b"\xff" * 20, b"PNG"])
def test_what_is_of_no_known_kind_is_not_given_one(content: bytes):
    found = file_kinds.of(content)
    assert found is None or "JSON" in found.what


READERS: dict[str, Callable[[Path], object]] = {
    "safetensors": read_safetensors,
    "gguf": read_gguf,
    "json": read_json,
    "recipe": read_recipe,
    "manifest": lambda path: read_manifest(path.parent),
    "picture": read_metadata,
    "bytes": lambda path: weight_bytes([path.rename(path.with_suffix(".safetensors"))]),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFO")
@pytest.mark.parametrize("name", READERS)
def test_a_fifo_is_refused_at_once(tmp_path, name: str):
    """Opened as a file it would wait for a writer for ever."""
    path = tmp_path / "manifest.json"
    os.mkfifo(path)
    with pytest.raises(IdeogramQ8Error, match="FIFO"):
        READERS[name](path)
    with pytest.raises(file_kinds.NotRegularError):
        sha256_of(next(tmp_path.iterdir()))


@pytest.mark.parametrize("name", ["safetensors", "gguf", "json", "recipe", "picture"])
def test_a_folder_is_called_a_folder(tmp_path, name: str):
    with pytest.raises(IdeogramQ8Error, match="it is no file at all but a folder"):
        READERS[name](tmp_path)


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(BOM + b'{"a": 1}')
    assert read_json(path) == {"a": 1}
    path.write_bytes(POINTER)
    with pytest.raises(SourceError, match="is a Git-LFS pointer.*expected JSON: run `git lfs pull`"):
        read_json(path)


def test_a_recipe_and_a_manifest_may_begin_with_a_byte_order_mark(tmp_path, built):
    plain = (built["int8"] / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(BOM + plain)
    assert read_manifest(tmp_path) == read_manifest(built["int8"])
    path = tmp_path / "recipe.json"
    path.write_bytes(BOM + b"{}")
    with pytest.raises(ArtifactError, match="recipe: key 'format_version' is missing"):
        read_recipe(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(RequestError, match="cannot read"):
        read_recipe(path)
