"""`bench load`: what is loaded, in which process, and what its figures mean."""

from __future__ import annotations

import pytest
import torch

from ideogram_q8.bench import loads
from ideogram_q8.bench.processes import apart
from ideogram_q8.bench.results import LoadSettings, from_json, to_json
from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import BRANCHES, tensor_shapes
from ideogram_q8.runtime.memory import usage
from ideogram_q8.sources import open_source
from tests.synthetic import TINY, write_source

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SETTINGS = LoadSettings("float32", 2, 0, 0)


@pytest.fixture
def here(monkeypatch):
    """A process of its own takes seconds to start; one test has it."""
    monkeypatch.setattr(loads, "apart", lambda _, function, *arguments: function(*arguments))


def test_every_place_is_a_row(built, tmp_path, here):
    source = write_source(tmp_path / "source")
    places = [str(source), str(built["int8"]), str(built["q4_k_m"]), str(tmp_path / "nowhere")]
    progress, kept = [], []
    found = loads.measure(places, SETTINGS, CPU, progress.append, kept.append)
    assert [[row.place for row in each.rows] for each in kept] == [places[:count] for count in (1, 2, 3, 4)]
    assert all(each.interrupted for each in kept) and not found.interrupted
    assert [row.place for row in found.rows] == places
    *rows, missing = found.rows
    assert [row.variant for row in rows] == ["fp8", "int8", "q4_k_m"]
    for row in rows:
        assert len(row.cold.samples) == len(row.warm.samples) == len(row.switch.samples) == 2
        # bfloat16 becomes float32, and one branch leaves its text projection out
        assert 0.5 * row.file_bytes < row.device_bytes < 2 * row.file_bytes
    assert rows[0].file_bytes == sum(path.stat().st_size for path in source.rglob("*.safetensors"))
    assert missing.cold is None and "nowhere" in missing.note
    assert len(found.held_bytes) == 2 and [(p.done, p.total) for p in progress] == [(i, 5) for i in range(6)]
    assert from_json(to_json(found)) == found


def test_a_gguf_file_is_a_place(built):
    path = next(path for path in built["q8_0"].rglob("*.gguf") if "uncond" not in path.name)
    with pytest.raises(ArtifactError):  # its heads are no Ideogram 4's, and a bare file does not say how wide they are
        loads.open_branches(str(path))
    assert loads.open_branches(str(built["q8_0"])).variant == "q8_0"


def test_a_process_of_its_own_measures_its_own_memory(built):
    found = apart("loaded", loads._load_once, str(built["int8"]), "cpu", "float32")
    assert found.device_bytes == usage.module_bytes(*loads.load(str(built["int8"]), CPU, torch.float32)) > 0
    assert found.seconds > 0 and found.peak_bytes >= 0


def test_what_a_process_refuses_comes_back(tmp_path, here):
    (row,) = loads.measure([str(tmp_path)], SETTINGS, CPU).rows
    assert row.cold is None and str(tmp_path) in row.note


def test_control_c_leaves_what_was_measured(built, here, monkeypatch):
    row = loads._row

    def stop(place, settings, device):
        if place == "stop":
            raise KeyboardInterrupt
        return row(place, settings, device)

    monkeypatch.setattr(loads, "_row", stop)
    found = loads.measure([str(built["int8"]), "stop"], SETTINGS, CPU)
    assert found.interrupted and [each.variant for each in found.rows] == ["int8"]


def test_a_random_checkpoint_is_a_source_of_the_official_layout(tmp_path, quick):
    folder = loads.write_random(tmp_path / "random", layers=1, config=TINY)
    source = open_source(str(folder))
    assert source.config.num_layers == 1 and source.config.hidden_size == TINY.hidden_size
    for branch in BRANCHES:
        assert set(source.branch(branch).names) == set(tensor_shapes(source.config))
    places = loads.write_variants(tmp_path, folder, ["int8"])
    assert [loads.open_branches(place).variant for place in places] == ["fp8", "int8"]
