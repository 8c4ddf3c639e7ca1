"""Whatever the bytes of a header are, the reader opens the file or raises SourceError in one line, within little memory."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ideogram_q8.errors import SourceError
from ideogram_q8.formats.safetensors_header import HEADER_LIMIT, TENSOR_LIMIT
from ideogram_q8.formats.stored import read_header
from ideogram_q8.sources import open_source
from tests.synthetic import TINY, fp8_tensors, write_source

FILE = "transformer/diffusion_pytorch_model.safetensors"
SMALL = {name: value for name, value in fp8_tensors(TINY, 0).items() if name.startswith("final_layer")}
WHOLE = save(SMALL, {"format": "pt"})
HEADER_END = 8 + int.from_bytes(WHOLE[:8], "little")

SETTINGS = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.integers(-2, 70) | st.sampled_from([1 << 62, 1 << 63, 1 << 64, 10**40])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "U8", "F4", "Q9"]) | JSON,
        "shape": st.lists(NUMBERS, max_size=9) | JSON,
        "data_offsets": st.lists(NUMBERS, min_size=2, max_size=2) | JSON,
    }
)


def check_refusal(error: SourceError) -> None:
    assert "\n" not in str(error) and len(str(error)) < 2000


def opened(path, content: bytes) -> None:
    """Reads every tensor, or is refused in one line."""
    path.write_bytes(content)
    try:
        for tensor in read_header(path).tensors.values():
            if tensor.dtype in ("F32", "BF16", "F8_E4M3", "U8"):
                assert tensor.read().shape == (tensor.count,)
    except SourceError as error:
        check_refusal(error)


def test_a_whole_file_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(WHOLE)
    found = read_header(path).tensors
    assert {name: tensor.shape for name, tensor in found.items()} == {name: tuple(value.shape) for name, value in SMALL.items()}


@SETTINGS
@given(st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes(tmp_path, changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    opened(tmp_path / "x", bytes(content))


@SETTINGS
@given(st.integers(0, len(WHOLE)), st.binary(max_size=40))
def test_cut_and_lengthened_files(tmp_path, size, more):
    opened(tmp_path / "x", WHOLE[:size] + more)


@SETTINGS
@given(JSON | st.dictionaries(st.text(max_size=8), ENTRIES | JSON, max_size=4), st.binary(max_size=70))
def test_any_json(tmp_path, value, data):
    header = json.dumps(value).encode("utf-8", "surrogatepass")
    opened(tmp_path / "x", len(header).to_bytes(8, "little") + header + data)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes_in_a_checkpoint(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    if not folder.exists():
        write_source(folder)
    path = folder / FILE
    whole = path.read_bytes()
    place = data.draw(st.integers(0, 8 + int.from_bytes(whole[:8], "little") - 1))
    content = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    path.write_bytes(content)
    try:
        source = open_source(folder)
        source.branch("conditional").read("input_proj.bias")
    except SourceError as error:
        check_refusal(error)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("length", [0, 1, HEADER_LIMIT + 1, 1 << 40, (1 << 64) - 1])
def test_impossible_header_lengths(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(length.to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(HEADER_LIMIT + 100)  # sparse
    with pytest.raises(SourceError, match=f"its header's length is {length}, at most {HEADER_LIMIT} fit"):
        read_header(path)


@pytest.mark.parametrize("header", [b"[" * 1_000_000, b'{"a":' * 500_000, b"[" + b"[]," * 50_000 + b"[]]", b"1" * 1_000_000])
def test_hostile_json_costs_little_memory(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("length", [5_000_000, 20_000_000])
def test_a_header_may_be_long_where_its_metadata_are(tmp_path, length):
    path = tmp_path / "x"
    path.write_bytes(save(SMALL, {"workflow": '[{"id":1,"pos":[0,0]},' * (length // 22)}))
    assert len(read_header(path).metadata["workflow"]) > length - 22
    assert set(read_header(path).tensors) == set(SMALL)


@pytest.mark.parametrize("piece", [b"[],", b'{"a":0},', b"0,", b'"",'])
def test_a_long_header_of_many_values_costs_little_memory(tmp_path, piece):
    header = b"[" + piece * (20_000_000 // len(piece)) + b"0]"
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="its header lists more than"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(header)
    finally:
        tracemalloc.stop()


def test_too_many_tensors(tmp_path):
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({str(i): entry for i in range(TENSOR_LIMIT + 1)}).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(SourceError, match=f"it lists {TENSOR_LIMIT + 1} tensors, at most {TENSOR_LIMIT} are read"):
        read_header(tmp_path / "x")


@pytest.mark.parametrize(
    ("entries", "data", "reason"),
    [
        ({"a": ["U8", [2], [0, 2]], "b": ["U8", [2], [3, 5]]}, 5, "a hole or an overlap at byte 2"),
        ({"a": ["U8", [2], [0, 2]], "b": ["U8", [2], [1, 3]]}, 3, "a hole or an overlap at byte 1"),
        ({"a": ["U8", [2], [0, 2]]}, 3, "its header describes"),
        ({"a": ["U8", [2], [0, 2]]}, 1, "its header describes"),
        ({"a": ["F32", [2], [0, 2]]}, 2, "entry 'a' is not that of a tensor"),
        ({"a\n": ["U8", [2], [0, 2]]}, 2, r"entry 'a\\n' is not that of a tensor"),
    ],
)
def test_data_must_be_what_the_header_says(tmp_path, entries, data, reason):
    table = {name: dict(zip(("dtype", "shape", "data_offsets"), value, strict=True)) for name, value in entries.items()}
    header = json.dumps(table).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(data))
    with pytest.raises(SourceError, match=reason):
        read_header(tmp_path / "x")
