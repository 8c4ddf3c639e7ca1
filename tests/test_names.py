"""Kinds of texts: what passes is what files of this project hold; what does not begins, ends or goes elsewhere."""

from __future__ import annotations

import pytest

from ideogram_q8.formats import names
from ideogram_q8.hub.place import Place, parse

REVISIONS = ["main", "v1.0.0", "refs/pr/3", "a" * 40, "feature/x-y_z", "1"]
NO_REVISIONS = [
    *(
        "",
        "/abs/path",
        "-x",
        ".x",
        "a/../b",
        "a//b",
        "a/",
        "a.",
        "a/.b",
        "a.lock",
        "a b",
        "a\nb",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
    ),
    *("a[b", "a\\b", "ä", "a\x00", "x" * 201, "../a", "a@{1}"),
]


@pytest.mark.parametrize("text", REVISIONS)
def test_revisions(text: str):
    assert names.is_revision(text)
    assert parse(f"org/name@{text}") == Place("org/name", "", text)
    assert parse(f"org/name/q8_0@{text}") == Place("org/name", "q8_0", text)


@pytest.mark.parametrize("text", NO_REVISIONS)
def test_what_is_no_revision_names_no_place(text: str):
    assert not names.is_revision(text)
    assert parse(f"org/name@{text}") is None


@pytest.mark.parametrize("text", ["a.gguf", "transformer/x-00001-of-00002.safetensors", "modèle (1).safetensors", "a b/c"])
def test_inner_paths(text: str):
    assert names.is_inner_path(text)


@pytest.mark.parametrize(
    "text", ["", "/a", "a/../b", "..", ".", "a//b", "a/", "a\\b", "C:a", "a\nb", "a`b", "a\x1b", "a|b", "x" * 1001]
)
def test_no_inner_paths(text: str):
    assert not names.is_inner_path(text)


@pytest.mark.parametrize("text", ["int8", "q4_k_s, int8 compute", "custom-12-g7.5", "fp8-int8-attention"])
def test_short_names(text: str):
    assert names.is_name(text)


@pytest.mark.parametrize("text", ["", " a", "a;b", "a\nb", "a`", "<a>", "a/b", "ä", "$(a)", "x" * 101])
def test_no_short_names(text: str):
    assert not names.is_name(text)


def test_versions_digests_and_lines():
    assert names.is_version("2.13.0+cpu") and not names.is_version("1 2") and not names.is_version("1\n")
    assert names.is_sha256("0" * 64) and not names.is_sha256("0" * 63) and not names.is_sha256("A" * 64)
    assert names.is_line("Ideogram 4", 10) and not names.is_line("a\n", 10) and not names.is_line("", 10)
    assert not names.is_line("a" * 11, 10) and not names.is_line("\x1b", 10)
