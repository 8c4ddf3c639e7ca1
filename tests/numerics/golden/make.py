"""Golden vectors of ggml's encoders, made by ggml's own C: `python make.py GGML_SOURCE OUTPUT.npz`.

GGML_SOURCE is the folder `ggml` of llama.cpp; ggml.npz beside this script was made from `vendor/llama.cpp/ggml` of the source package
of llama-cpp-python 0.3.36 (PyPI), ggml 0.25.3, MIT licence, by gcc 12.2 on x86-64 with the FLAGS below: without fused multiply-add,
which C compilers otherwise use where the processor has it, so that results would differ from the source by a rounding here and there.

OUTPUT holds `importance` float32 [512], and for each kind of values `values/KIND` float32 [rows, 512] and for each type of block
`plain/TYPE/KIND` and `weighted/TYPE/KIND` uint8 [rows, bytes]: `quantize_TYPE` without and with importance.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FLAGS = ["-O2", "-mno-fma", "-ffp-contract=off", "-DNDEBUG", "-shared", "-fPIC"]
SHIM = """
#include "ggml-quants.c"
size_t ggml_row_size(enum ggml_type type, int64_t count) {
    switch (type) {
        case GGML_TYPE_Q4_0: return count / QK4_0 * sizeof(block_q4_0);
        case GGML_TYPE_Q4_1: return count / QK4_1 * sizeof(block_q4_1);
        case GGML_TYPE_Q5_0: return count / QK5_0 * sizeof(block_q5_0);
        case GGML_TYPE_Q5_1: return count / QK5_1 * sizeof(block_q5_1);
        case GGML_TYPE_Q8_0: return count / QK8_0 * sizeof(block_q8_0);
        case GGML_TYPE_Q4_K: return count / QK_K * sizeof(block_q4_K);
        case GGML_TYPE_Q5_K: return count / QK_K * sizeof(block_q5_K);
        case GGML_TYPE_Q6_K: return count / QK_K * sizeof(block_q6_K);
        default: abort();
    }
}
size_t ggml_type_size(enum ggml_type type) { (void) type; abort(); }
const char * ggml_type_name(enum ggml_type type) { (void) type; abort(); }
void ggml_abort(const char * file, int line, const char * text, ...) { (void) file; (void) line; (void) text; abort(); }
"""
SIZES = {
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q8_0": (32, 34),
    "q4_K": (256, 144),
    "q5_K": (256, 176),
    "q6_K": (256, 210),
    "iq4_nl": (32, 18),
}
"""By ggml's name: values and bytes of a block."""
WIDTH = 512


def build(source: Path, folder: Path) -> ctypes.CDLL:
    """ggml-quants.c alone, as a shared library in `folder`."""
    (folder / "shim.c").write_text(SHIM)
    includes = [f"-I{source / part}" for part in ("include", "src", "src/ggml-cpu")]
    library = folder / "quants.so"
    subprocess.run(["gcc", *FLAGS, *includes, str(folder / "shim.c"), "-o", str(library), "-lm"], check=True)
    return ctypes.CDLL(str(library))


def quantize(library: ctypes.CDLL, name: str, values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
    """float32 [R, K] -> uint8 [R, bytes]."""
    rows, width = values.shape
    block, size = SIZES[name]
    out = np.zeros((rows, width // block * size), np.uint8)
    function = getattr(library, f"quantize_{name}")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    function.restype = ctypes.c_size_t
    function(values.ctypes.data, out.ctypes.data, rows, width, None if importance is None else importance.ctypes.data)
    return out


def kinds(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values, float64 here."""
    normal = rng.standard_normal((2, WIDTH))
    zero = np.zeros((2, WIDTH))
    outlier = zero.copy()
    outlier[:, 7::32] = normal[:, 7::32]
    yield "normal", rng.standard_normal((6, WIDTH)) * 0.02
    yield "heavy_tailed", rng.standard_t(2, (4, WIDTH)) * 0.01
    yield "scales_apart", normal * np.repeat(np.exp(rng.standard_normal((2, WIDTH // 32)) * 8), 32, axis=1)
    yield "sparse", np.where(rng.random((2, WIDTH)) < 0.9, 0.0, normal)
    yield "tiny", normal * 1e-12
    yield "below_epsilon", normal * 1e-17
    yield "denormal", normal * 1e-39
    yield "huge", normal * 1e17
    yield "largest", normal * 5e37
    yield "all_equal", np.repeat(normal[:, ::32], 32, axis=1)
    yield "nearly_equal", normal * 1e-6 - 1.0
    yield "positive", abs(normal) + 1.0
    yield "all_zero", zero
    yield "zeros_of_both_signs", np.where(normal > 0, 0.0, -0.0)
    yield "one_outlier", outlier
    yield "ties", rng.integers(-8, 9, (2, WIDTH)).astype(np.float64)
    yield "half_ties", rng.integers(-127, 128, (2, WIDTH)) / 2.0


def main(source: Path, output: Path) -> None:
    """Compile, quantize, write."""
    rng = np.random.default_rng(4)
    importance = np.exp(rng.standard_normal(WIDTH) * 2).astype(np.float32)
    importance[rng.random(WIDTH) < 0.1] = 0.0
    arrays = {"importance": importance}
    with tempfile.TemporaryDirectory() as folder:
        library = build(source, Path(folder))
        for kind, wide in kinds(rng):
            values = arrays[f"values/{kind}"] = wide.astype(np.float32)
            for name in SIZES:
                arrays[f"plain/{name.lower()}/{kind}"] = quantize(library, name, values, None)
                arrays[f"weighted/{name.lower()}/{kind}"] = quantize(library, name, values, importance)
    np.savez_compressed(output, **arrays)  # type: ignore[arg-type]  # its stub takes keyword arguments for flags only


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
