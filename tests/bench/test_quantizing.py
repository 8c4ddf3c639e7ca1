"""`bench quantize`: what it reports is what was done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ideogram_q8.__main__ import main
from ideogram_q8.bench import encoders, quantizing
from ideogram_q8.bench.processes import apart
from ideogram_q8.errors import RequestError, ResourceError, SourceError
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.synthetic import write_source


@pytest.fixture
def in_this_process(monkeypatch):
    """A process of its own takes seconds to start; one test has it."""

    monkeypatch.setattr(quantizing, "apart", lambda _, function, *arguments: function(*arguments))
    monkeypatch.setattr(quantizing, "_MEMORY_BYTES", 1 << 20)


def test_the_last_line_is_json(tmp_path, capsys, in_this_process):
    source = write_source(tmp_path / "source")
    (tmp_path / "disk").mkdir()
    arguments = ["bench", "quantize", str(source), "--scheme", "int8", "--folder", str(tmp_path / "disk")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    told = [line for line in printed.err.splitlines() if line.endswith(" GB/s")]  # as they are measured
    assert [line.split(":")[0] for line in told] == ["copy of the source", "quantize to int8", "one pass over memory"]
    found = json.loads(lines[-1])
    files = list(source.rglob("*.safetensors"))
    assert found["source_bytes"] == sum(path.stat().st_size for path in files)
    assert found["quantize_rate"] == pytest.approx(found["source_bytes"] / found["seconds"] / 1e9)
    assert found["share_of_copy"] == pytest.approx(found["quantize_rate"] / found["copy_rate"])
    assert found["share_of_memory"] == pytest.approx(found["quantize_rate"] / found["memory_rate"])
    assert found["variant"] == "int8" and found["peak_bytes"] > 0 and found["written_bytes"] > 0
    assert [line.split()[0] for line in lines[1:4]] == ["quantize", "copy", "one"]
    assert list((tmp_path / "disk").iterdir()) == []
    assert main([*arguments, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line).keys() == found.keys()


def test_a_process_of_its_own_reports_and_refuses(tmp_path):
    """The same process twice would cost another start: what it refuses shows that it ran."""
    source = write_source(tmp_path / "source")
    opened = open_source(source)
    path = next(source.rglob("unconditional_transformer/*.safetensors"))
    path.write_bytes(path.read_bytes())  # as when something writes to it meanwhile
    with pytest.raises(SourceError, match="has changed since it was opened"):
        apart("quantized", quantizing._quantize, opened, choose("int8", opened.config), tmp_path / "out", "cpu", None)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_process_that_dies_before_it_has_read_anything_is_one_line(source, tmp_path, monkeypatch):
    """The program is imported first, and what the process is to do does not fit into a pipe."""
    program = tmp_path / "program.py"
    program.write_text("import os\nos._exit(7)\n", encoding="utf-8")
    module = ModuleType("__main__")
    module.__file__ = str(program)
    monkeypatch.setitem(sys.modules, "__main__", module)
    with pytest.raises(ResourceError, match="the process that quantized ended with code 7; was it out of memory"):
        apart("quantized", quantizing._quantize, source, choose("int8", source.config), Path("x" * 3_000_000), "cpu", None)


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    source = write_source(tmp_path / "source")
    assert main(["bench", "quantize", str(source), "--scheme", "int8", "--folder", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "none" in error and len(error.splitlines()) == 1


# ---- encoders beside ggml's ----

FAKE = """
#include <stddef.h>
#include <stdint.h>
size_t ggml_quantize_chunk(int type, const float *x, void *out, int64_t start, int64_t rows, int64_t width, const float *w) {
    return 0;
}
"""


@pytest.fixture
def few_values(monkeypatch):
    monkeypatch.setattr(encoders, "_ROWS", 1)
    monkeypatch.setattr(encoders, "_WIDTH", 256)
    monkeypatch.setattr(encoders, "find_library", lambda: None)


def test_gguf_types_have_a_rate_each(tmp_path, capsys, in_this_process, few_values):
    source = write_source(tmp_path / "source")
    (tmp_path / "disk").mkdir()
    assert main(["bench", "quantize", str(source), "--scheme", "q4_k_m", "--folder", str(tmp_path / "disk")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rates = json.loads(lines[-1])["encoders"]
    assert [rate["type"] for rate in rates] == ["q4_k", "q5_k", "q6_k", "q8_0"]
    assert all(rate["ours"] > 0 and rate["ggml"] is None and not rate["weighted"] for rate in rates)
    assert sum("not measured: llama-cpp-python is not installed" in line for line in lines[:-1]) == 4


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_library_of_ggml_is_measured_beside(tmp_path, few_values):
    (tmp_path / "fake.c").write_text(FAKE, encoding="utf-8")
    library = tmp_path / "libggml-base.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "fake.c")], check=True)
    plain, weighted = encoders.measure([("q4_k", False), ("q4_k", True)], library)
    assert (plain.weighted, weighted.weighted, plain.note) == (False, True, str(library))
    assert plain.ggml > plain.ours > 0  # it does nothing


def test_what_is_no_library_is_refused(tmp_path, few_values):
    (tmp_path / "no.so").write_text("none", encoding="utf-8")
    with pytest.raises(RequestError, match=r"no\.so is not ggml's library: .*; expected libggml-base"):
        encoders.measure([("q8_0", False)], tmp_path / "no.so")
