"""What cannot be quantized, and what is left when the disk or the source fails."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from ideogram_q8.builds.quantization import quantize
from ideogram_q8.errors import ArtifactError, RequestError, ResourceError, SourceError
from ideogram_q8.recipes import choose
from ideogram_q8.sources import open_source
from tests.synthetic import TINY, write_source


def test_bad_requests_leave_nothing(source, tmp_path):
    with pytest.raises(RequestError, match="unknown scheme 'int9'"):
        quantize(source, choose("int9", source.config), tmp_path / "out")
    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match="holds 'notes'"):
        quantize(source, choose("int8", source.config), tmp_path, overwrite=True)
    with pytest.raises(ArtifactError, match="is not part of an artifact"):
        quantize(source, choose("int8", source.config), source.folder, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize(
    ("value", "scheme", "error"),
    [(float("nan"), "int8", SourceError), (float("inf"), "q8_0", SourceError), (1e30, "q4_k_s", ArtifactError)],
)
def test_weights_that_cannot_be_stored_are_named(tmp_path, value, scheme, error):
    folder = write_source(tmp_path / "source")
    path = folder / "unconditional_transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["layers.1.feed_forward.w2.weight_scale"][3] = value
    save_file(tensors, path)
    with pytest.raises(error, match=r"diffusion_pytorch_model\.safetensors: layers\.1\.feed_forward\.w2\.weight"):
        quantize(open_source(folder), choose(scheme, TINY), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("change", "message"),
    [(Path.unlink, "cannot be read any more: .*; check the disk"), (os.utime, "has changed since it was opened")],
)
def test_a_source_that_changes_is_not_hashed_as_if_it_had_not(tmp_path, change, message):
    folder = write_source(tmp_path / "source")
    source, path = open_source(folder), folder / "transformer" / "diffusion_pytorch_model.safetensors"
    change(path)
    with pytest.raises(SourceError, match=message):
        source.record()


def test_a_source_that_cannot_be_hashed_is_not_the_fault_of_the_output(source, tmp_path, monkeypatch):
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("ideogram_q8.sources.source.sha256_of", refuse)
    opened = open_source(source.folder)
    with pytest.raises(SourceError, match=r"safetensors cannot be read any more: Permission denied; check the disk"):
        quantize(opened, choose("int8", opened.config), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_found_before_writing(source, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(ResourceError, match=r"out needs 0\.00\d GB of disk, 0\.001 GB are free; free some"):
        quantize(source, choose("int8", source.config), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on file size")
@pytest.mark.parametrize("scheme", ["int8", "q8_0"])
def test_a_disk_that_fills_up_leaves_nothing(source, tmp_path, scheme):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(ResourceError, match="cannot write into"):
            quantize(source, choose(scheme, source.config), tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs to become another user")
def test_a_folder_that_cannot_be_written_is_one_line():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        source = open_source(write_source(Path(folder) / "source"))
        os.seteuid(65534)
        try:
            for out in (Path(folder) / "out", Path(folder) / "deep" / "out"):
                with pytest.raises(
                    ResourceError, match="cannot write into .*: permission denied; make room or name another folder"
                ):
                    quantize(source, choose("int8", source.config), out)
        finally:
            os.seteuid(0)
        assert os.listdir(folder) == ["source"]
