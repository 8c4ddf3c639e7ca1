"""llama.cpp itself opens our text encoder: its architecture, its tokenizer, and the same features (needs requirements.txt here).

So names, metadata and the order of the rows of q and k are what llama.cpp takes them for.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.recipes import choose
from ideogram_q8.runtime.loading.model import load
from ideogram_q8.sources import open_text_encoder

llama = pytest.importorskip("xllamacpp", reason="pip install xllamacpp==2026.10.11549: llama.cpp with a server, MIT")
IDS = list(range(5, 45))
TEXT = "<|im_start|>user\na red star<|im_end|>\n"


def ask(server, path: str, **body):
    request = urllib.request.Request(f"{server.listening_address}{path}", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.mark.parametrize(("scheme", "limit"), [("q8_0", 0.003), ("q4_k_m", 0.01)])
def test_its_features_are_ours(tmp_path: Path, scheme: str, limit: float):
    """Up to what it rounds: llama.cpp quantizes activations to eight bits where weights are in blocks."""
    source = open_text_encoder("pocket")
    manifest = quantize(source, choose(scheme, source.config), tmp_path / "out")
    parameters = llama.CommonParams()
    parameters.model.path = str(tmp_path / "out" / manifest.files[0].path)
    parameters.embedding, parameters.embd_normalize = True, -1
    parameters.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
    parameters.n_ctx, parameters.n_gpu_layers, parameters.warmup = 512, 0, False
    parameters.cpuparams.n_threads = 1
    server = llama.Server(parameters)
    theirs = np.array(ask(server, "/embedding", content=IDS, embd_normalize=-1)[0]["embedding"])
    tokens = ask(server, "/tokenize", content=TEXT, parse_special=True, add_special=True)["tokens"]
    model = load("pocket", text_encoder=tmp_path / "out")
    with torch.no_grad():
        ours = model.text_encoder(input_ids=torch.tensor([IDS]), use_cache=False).last_hidden_state[0].numpy()
    assert np.linalg.norm(theirs - ours) / np.linalg.norm(ours) < limit
    assert tokens == model.tokenizer(TEXT)["input_ids"]
