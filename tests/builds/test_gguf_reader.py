"""GGUF files from anywhere: what is read back, and every lie of a header by its name."""

from __future__ import annotations

import os
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats import gguf_header
from ideogram_q8.formats.gguf_header import LongList, read_header
from ideogram_q8.formats.gguf_reader import GgufFile
from ideogram_q8.numerics import ggml
from tests.gguf_files import I32, LIST, TEXT, TYPES, U16, U32, assemble, entry, number, tensor, text, write_gguf

HUGE = (1 << 64) - 1
F32 = 0
MAPS = Path("/proc/self/maps")
"""What this process has mapped, on Linux."""


def refusal(path: Path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        GgufFile(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_is_read_as_gguf_py_reads_it(tmp_path, kind):
    values = torch.randn(2, 3, 512, generator=torch.Generator().manual_seed(1))
    path = write_gguf(tmp_path / "x.gguf", {"first": (torch.ones(5), "f32"), "second": (values, kind)}, "any")
    opened, stock = GgufFile(path), gguf.GGUFReader(path)
    assert opened.tensors() == {"first": ("F32", (5,)), "second": (kind.upper(), (2, 3, 512))}
    found = opened.read("second")
    decoded = ggml.decode(found, TYPES[kind]) if kind in ggml.BLOCKS else found.float()
    expected = gguf.dequantize(stock.tensors[1].data, stock.tensors[1].tensor_type)
    assert torch.equal(decoded, torch.from_numpy(expected.copy()).view(2, 3, 512))
    assert opened.metadata() == {"general.architecture": "any"} and opened.files == (path,)


def test_tensors_are_views_of_the_file_which_is_mapped_while_they_live(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", {name: (torch.ones(4, 32), "q8_0") for name in "ab"})
    opened = GgufFile(path)
    a, b = opened.read("a"), opened.read("b")
    if MAPS.exists():
        assert MAPS.read_text().count(str(path)) == 2
        del b
        assert MAPS.read_text().count(str(path)) == 1
    before = path.read_bytes()
    a.zero_()
    assert path.read_bytes() == before
    path.write_bytes(before + b" ")
    with pytest.raises(ArtifactError, match="has changed since it was opened"):
        opened.read("a")
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be mapped"):
        opened.read("a")


def test_values_of_all_types_are_kept_but_long_lists(tmp_path):
    numbers = [entry(str(kind), kind, struct.pack(f"<{code}", 1)) for kind, code in gguf_header._SCALARS.items()]
    lists = [
        entry("short", LIST, struct.pack("<IQ3i", I32, 3, -1, 2, 3)),
        entry("empty", LIST, struct.pack("<IQ", U32, 0)),
        entry("long", LIST, struct.pack("<IQ100I", U32, 100, *range(100))),
        entry("texts", LIST, struct.pack("<IQ", TEXT, 2) + text("a") + text("")),
    ]
    path = tmp_path / "x.gguf"
    path.write_bytes(assemble([*numbers, *lists, entry("t", TEXT, text("é"))]))
    found = GgufFile(path).values
    assert [found[str(kind)] for kind in gguf_header._SCALARS] == [1] * 11 and found["7"] is True
    assert (found["short"], found["empty"], found["t"]) == ((-1, 2, 3), (), "é")
    assert (found["long"], found["texts"]) == (LongList(100), LongList(2))


ONE = tensor("a", (32,), F32, 0)
DATA = bytes(128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it ends early"),
        (b"GGU", "it ends early"),
        (b"GGUF\x03\0", "its header ends early"),
        (assemble(head=b"GGML\x03\0\0\0"), "it begins with b'GGML', expected b'GGUF'"),
        (assemble(head=b"GGUF\x01\0\0\0"), "its version is 1, expected 2 or 3"),
        (assemble(head=b"GGUF\x04\0\0\0"), "its version is 4"),
        (assemble(counts=(HUGE, 0)), f"it lists {HUGE} tensors, at most 16384 are read"),
        (assemble(counts=(0, HUGE)), f"it lists {HUGE} values"),
        (assemble(counts=(0, 3))[:30], "ends early"),
        (assemble([text("k") + struct.pack("<I", 13)]), "k has the type 13, which GGUF does not know"),
        (assemble([struct.pack("<QI", HUGE, 4)]), "ends early"),
        (assemble([number("", 1)]), "the length of a key is 0"),
        (assemble([number("k" * 600, 1)]), "the length of a key is 600, expected 1 to 512"),
        (assemble([entry(b"\xff", U32, bytes(4))]), "a key is not text"),
        (assemble([number("a\x1b[2J", 1)]), "which is not printable"),
        (assemble([number("k", 1), number("k", 2)]), "key k is there twice"),
        (assemble([entry("k", TEXT, struct.pack("<Q", 1 << 40))]), "ends early"),
        (assemble([entry("k", LIST, struct.pack("<IQ", U32, 1 << 62))]), "ends early"),
        (assemble([entry("k", LIST, struct.pack("<IQ", U32, 40))]), "ends early, 40 bytes are to come"),
        (assemble([entry("k", LIST, struct.pack("<IQ", TEXT, 9) + text("a"))]), "ends early"),
        (
            assemble([entry("k", LIST, struct.pack("<IQIQ", LIST, 1, LIST, 1))]),
            "k is a list of values of type 9, expected texts",
        ),
        (assemble([number("general.architecture", 1)]), "general.architecture is '1', expected a text"),
        (assemble([entry("general.file_type", TEXT, text("x"))]), "general.file_type is 'x', expected a whole number"),
        (assemble([entry("general.alignment", 7, b"\1")]), "general.alignment is 'True', expected a whole number"),
        (assemble([number("general.alignment", 0)]), "general.alignment is 0, expected a power of two"),
        (assemble([number("general.alignment", 48)]), "general.alignment is 48"),
        (assemble([number("general.alignment", 1 << 31)]), "general.alignment is 2147483648"),
        (assemble([], [tensor("a", (1,) * 5, F32, 0)]), "tensor a has 5 dimensions, at most 4"),
        (assemble([], [text("a") + struct.pack("<I", 1 << 31)]), "tensor a has 2147483648 dimensions"),
        (assemble([], [tensor("a", (256,), 999, 0)]), "the type 999, which ggml does not know"),
        (assemble([], [tensor("a", (0, 2), F32, 0)]), "tensor a is F32 [0, 2], expected rows in blocks of 1"),
        (assemble([], [tensor("a", (32, 31), 8, 0)]), "tensor a is Q8_0 [32, 31], expected rows in blocks of 32"),
        (assemble([], [tensor("a", (1 << 62, 4), F32, 0)], DATA), "and ends at"),
        (assemble([], [tensor("a", (33,), F32, 0)], DATA), "begins at byte 64 and ends at 196"),
        (assemble([], [tensor("a", (16,), F32, 0)], DATA), "its tensors end at byte 128, the file goes on"),
        (assemble([], [tensor("a", (8,), F32, HUGE)], DATA), "no multiple of 32"),
        (assemble([], [tensor("a", (8,), F32, 1 << 63)], DATA), "and ends at"),
        (assemble([], [tensor("a", (8,), F32, 4)], DATA), "begins at byte 68, no multiple of 32"),
        (assemble([], [tensor("a", (24,), F32, 32)], DATA), "begins at byte 96 and leaves a hole before it, expected byte 64"),
        (
            assemble([], [tensor("a", (16,), F32, 0), tensor("b", (24,), F32, 32)], DATA),
            "overlaps the one before it, expected byte 160",
        ),
        (
            assemble([], [tensor("a", (8,), F32, 0), tensor("b", (16,), F32, 64)], DATA),
            "leaves a hole before it, expected byte 128",
        ),
        (assemble([], [ONE, ONE], DATA), "tensor a is listed twice"),
        (assemble([], [tensor(b"\xfe", (8,), F32, 0)], DATA), "a tensor's name is not text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_lies_is_refused_by_name(tmp_path, content, message):
    found = refusal(tmp_path / "x.gguf", content)
    assert "is not a whole GGUF file: " in found and message in found and found.endswith("or mend what wrote it")


UNREAD = sorted({kind.value for kind in gguf.GGMLQuantizationType} - {block.gguf_type for block in TYPES.values()})


@pytest.mark.parametrize("kind", UNREAD, ids=lambda kind: gguf.GGMLQuantizationType(kind).name)
def test_types_that_are_not_read_are_named(tmp_path, kind):
    tensors = [tensor("c", (256,), kind, 0), ONE, tensor("b", (256,), kind, 128)]
    found = refusal(tmp_path / "x.gguf", assemble([], tensors, DATA))
    assert f"tensors in {gguf.GGMLQuantizationType(kind).name} (2 tensors), which are not read here" in found
    assert "expected Q4_0, " in found and "whole" not in found and "download it again" not in found


def test_the_other_byte_order_is_named(tmp_path):
    found = refusal(tmp_path / "x.gguf", assemble(head=b"GGUF\0\0\0\x03"))
    assert "in big-endian byte order, expected little-endian" in found and "gguf-convert-endian" in found
    assert "download it again" not in found


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = assemble([number("general.alignment", 64)], [ONE], DATA, alignment=64)
    path = tmp_path / "x.gguf"
    for size in range(len(whole)):
        refusal(path, whole[:size])
    path.write_bytes(whole)
    assert GgufFile(path).tensors() == {"a": ("F32", (32,))}
    refusal(path, whole + bytes(64))


def test_the_end_need_not_be_padded_and_tensors_need_no_order(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(assemble([], [tensor("b", (5,), F32, 32), tensor("a", (8,), F32, 0)], bytes(32) + bytes(20)))
    assert GgufFile(path).read("b").shape == (5,)
    path.write_bytes(path.read_bytes() + bytes(12))
    GgufFile(path)


def test_what_is_no_file_is_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "x.gguf")
    assert "it is no file at all" in refusal(tmp_path) or "Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (struct.pack("<IQ", TEXT, 8 << 20), "have 8388608 texts, at most 2097152 are read"),
        (struct.pack("<IQ", U32, 16 << 20), "its header has more than 67108864 bytes"),
    ],
)
def test_a_header_costs_no_more_than_its_bytes(tmp_path, claim, message):
    """In a file that has all the bytes that its lists claim."""
    path = tmp_path / "x.gguf"
    path.write_bytes(assemble([entry("k", LIST, claim)]))
    os.truncate(path, 80 << 20)
    began = time.monotonic()
    tracemalloc.start()
    assert message in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 and time.monotonic() - began < 5


@pytest.fixture(scope="module")
def sound() -> bytes:
    entries = [
        entry("general.architecture", TEXT, text("ideogram4")),
        entry("words", LIST, struct.pack("<IQ", TEXT, 3) + text("a") + text("bc") + text("")),
        entry("sections", LIST, struct.pack("<IQ4i", I32, 4, 6, 5, 5, 0)),
        number("general.alignment", 32),
        number("split.count", 1, U16),
    ]
    tensors = [tensor("a", (4, 32), 8, 0), tensor("b", (3,), F32, 160), tensor("c", (2, 256), 12, 192)]
    return assemble(entries, tensors, bytes(192 + 288))


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutated_headers_are_refused_or_read(sound, tmp_path_factory, data):
    damaged = bytearray(sound)
    end = len(sound) - 480
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, end - 1))
        change = data.draw(st.sampled_from(["byte", "word", "cut", "insert", "repeat"]))
        if change == "byte":
            damaged[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
        elif change == "word":
            damaged[at : at + 8] = struct.pack(
                "<Q", data.draw(st.sampled_from([0, 1, 8, 255, 1 << 31, 1 << 32, 1 << 62, HUGE]))
            )
        elif change == "cut":
            del damaged[at : at + data.draw(st.integers(1, 40))]
        elif change == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        else:
            damaged[at:at] = damaged[at : at + 40]
    path = tmp_path_factory.getbasetemp() / "mutated.gguf"
    path.write_bytes(damaged)
    tracemalloc.start()
    said = outcome(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in said and said.isprintable() and peak < 1 << 20


def outcome(path: Path) -> str:
    """The refusal, or the path of a file that could be read."""
    try:
        opened = GgufFile(path)
    except ArtifactError as error:
        return str(error)
    for name in opened.stored:
        opened.read(name)
    return str(path)


# ---- shards ----


def write_shards(folder: Path, count: int = 3, total: int = 3, name: str = "m") -> list[Path]:
    """As llama.cpp's gguf-split, one tensor in each."""
    paths = []
    for index in range(count):
        entries = [entry("general.architecture", TEXT, text("ideogram4"))] if index == 0 else []
        entries += [
            number("split.no", index, U16),
            number("split.count", count, U16),
            number("split.tensors.count", total, I32),
        ]
        paths.append(folder / f"{name}-{index + 1:05}-of-{count:05}.gguf")
        data = torch.full((8,), float(index)).numpy().tobytes()
        paths[-1].write_bytes(assemble(entries, [tensor(f"t{index}", (8,), F32, 0)], data))
    return paths


def test_any_shard_opens_all(tmp_path):
    paths = write_shards(tmp_path)
    for path in paths:
        opened = GgufFile(path)
        assert opened.files == tuple(paths) and opened.metadata() == {"general.architecture": "ideogram4"}
        assert [opened.read(f"t{index}")[0].item() for index in range(3)] == [0, 1, 2]


def test_missing_and_foreign_shards_are_named(tmp_path):
    paths = write_shards(tmp_path)
    paths[1].unlink()
    assert "m-00002-of-00003.gguf is missing; download it too" in refusal(paths[2])
    shutil.copy(paths[0], paths[1])
    assert "says that it is shard 0 of 3, counted from 0; its name says 1 of 3" in str(shard_error(paths[0]))
    paths = write_shards(tmp_path, total=4)
    assert "its shards have 3 tensors, 4 are expected" in refusal(paths[0])
    renamed = paths[0].rename(tmp_path / "renamed.gguf")
    assert "is one of 3 shards, and its name is that of one of 1" in refusal(renamed)
    (double,) = write_shards(tmp_path, 1, 1, "double")
    shutil.copy(double, tmp_path / "double-00001-of-00002.gguf")
    assert "is one of 1 shards, and its name is that of one of 2" in refusal(tmp_path / "double-00001-of-00002.gguf")
    assert "expected 1 to 1000" in refusal(tmp_path / "m-00002-of-99999.gguf", double.read_bytes())


def shard_error(path: Path) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        GgufFile(path)
    return caught.value


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    paths = write_shards(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes().replace(b"t2", b"t1"))
    assert "tensor t1 is in m-00002-of-00003.gguf too" in str(shard_error(paths[0]))


def test_a_header_tells_what_the_file_has(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(assemble([number("n", 7)], [ONE], DATA))
    header = read_header(path)
    assert (header.path, header.size, dict(header.values)) == (path, path.stat().st_size, {"n": 7})
    (found,) = header.tensors
    assert (found.dtype, found.count, found.nbytes, found.offset) == ("F32", 32, 128, 96)
