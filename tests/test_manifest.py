"""The manifest: round trips, and refusals that name the key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.manifest import FileRecord, Manifest, SourceRecord, TensorRecord, sha256_of
from ideogram_q8.recipes import choose
from tests.synthetic import TINY, TINY_TRAITS


def manifest() -> Manifest:
    tensors = (TensorRecord("a.weight", (2, 3), "I8", "w8a8"), TensorRecord("a.bias", (2,), "BF16", "bf16"))
    return Manifest(
        format_version=1,
        tool_version="1.2.3",
        variant="int8",
        scheme="int8",
        source=SourceRecord("pocket", None, {"transformer/x.safetensors": "0" * 64}),
        traits=TINY_TRAITS,
        transformer=TINY.to_json(),
        recipe=choose("int8", TINY).to_value(),
        files=(
            FileRecord("c.safetensors", 10, "b" * 64, "conditional"),
            FileRecord("u.safetensors", 11, "a" * 64, "unconditional"),
        ),
        tensors={"c.safetensors": tensors, "u.safetensors": tensors},
    )


def edited(*path: str | int, value: object) -> str:
    """The JSON text with one value replaced."""
    whole = json.loads(manifest().to_json())
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(whole)


def test_json_and_back():
    text = manifest().to_json()
    assert Manifest.from_json(text) == manifest()
    assert Manifest.from_json(text).to_json() == text


def test_the_identity_is_that_of_the_files_in_any_order():
    digest = hashlib.sha256(("a" * 64 + "b" * 64).encode()).hexdigest()
    assert manifest().artifact_sha256 == digest
    assert replace(manifest(), files=manifest().files[::-1]).artifact_sha256 == digest
    assert replace(manifest(), files=manifest().files[:1]).artifact_sha256 != digest


def test_a_branch_has_its_file():
    assert manifest().file("unconditional").path == "u.safetensors"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("extra",), 1, r"manifest\.json: unknown key 'extra'"),
        (("source", "extra"), 1, r"manifest\.json: source: unknown key 'extra'"),
        (("source", "revision"), 3, r"manifest\.json: source: revision is 3, expected text"),
        (("variant",), None, "variant is None, expected text"),
        (("files", 0, "size"), "10", r"files\[0\]: size is '10', expected an integer"),
        (("files", 0, "size"), True, r"files\[0\]: size is True, expected an integer"),
        (("files", 0, "branch"), "both", "branch is 'both', expected one of 'conditional', 'unconditional'"),
        (("files", 1, "branch"), "conditional", "expected one for each of conditional, unconditional"),
        (("files",), [], "files are none"),
        (("files", 0, "path"), "../c.safetensors", "does not stay inside"),
        (("files", 0, "path"), "/c.safetensors", "does not stay inside"),
        (("files", 0, "path"), "d.safetensors", "tensors are listed for"),
        (("traits", "default_size"), [1, 2, 3], "default_size has 3 values, expected 2"),
        (("traits",), [], "traits: got \\[\\], expected an object"),
        (("tensors", "c.safetensors", 0, "shape"), [1.5], r"shape\[0\] is 1\.5, expected an integer"),
        (("tensors", "c.safetensors"), {}, "expected a list"),
        (("format_version",), 2, "format_version is 2, expected 1"),
    ],
)
def test_a_wrong_value_is_named(path, value, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        Manifest.from_json(edited(*path, value=value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", json.loads(manifest().to_json()))
def test_a_missing_key_is_named(key):
    value = json.loads(manifest().to_json())
    del value[key]
    with pytest.raises(ArtifactError, match=f"key '{key}' is missing"):
        Manifest.from_json(json.dumps(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("9" * 5000, "not valid JSON"),
        ("[]", "got \\[\\], expected an object"),
        ('{"a": 1, "a": 2}', "key 'a' is given twice"),
        ('{"a": NaN}', "NaN is not JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused(text, message):
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(text)


def test_files_are_hashed_whole(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("key", ["transformer", "recipe"])
def test_what_is_not_unicode_is_refused_before_it_is_written_again(key: str):
    with pytest.raises(ArtifactError, match="half of a UTF-16 surrogate pair"):
        Manifest.from_json(edited(key, value={"a": "\ud800"}))
