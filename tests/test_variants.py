"""Variants are built once, found again, and built anew when the source or a file changed."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from ideogram_q8.builds import variants
from ideogram_q8.builds.quantization import Progress
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import FILE_NAME, Manifest
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.recipes import Part, choose
from ideogram_q8.sources import open_source
from tests.synthetic import write_source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_the_catalogue_lists_all_variants_before_and_after_building(source: Path, cache: Path) -> None:
    before = variants.catalogue(str(source), cache)
    assert [v.name for v in before] == ["fp8", "int8", "q8_0", "q4_k_s"]
    assert [v.location is None for v in before] == [False, True, True, True]
    assert before[0].size_bytes == sum(path.stat().st_size for path in source.rglob("*.safetensors"))
    for name in ("int8", "q8_0", "q4_k_s"):
        variants.prepare(name, str(source), cache)
    for expected, built in zip(before[1:], variants.catalogue(str(source), cache)[1:], strict=True):
        assert built.location is not None
        files = sum(path.stat().st_size for path in Path(built.location).iterdir() if path.name != FILE_NAME)
        assert built.size_bytes == files
        assert expected.size_bytes <= files <= expected.size_bytes + 200_000  # headers


def test_the_original_needs_no_build(source: Path, cache: Path) -> None:
    assert variants.prepare("fp8", str(source), cache) == str(source)
    assert not cache.exists()


def test_a_build_is_reported_and_then_found(source: Path, cache: Path) -> None:
    seen: list[Progress] = []
    location = variants.prepare("int8", str(source), cache, seen.append)
    assert seen and seen[-1].done_bytes == seen[-1].total_bytes
    assert Manifest.from_json((Path(location) / FILE_NAME).read_text(encoding="utf-8")).variant == "int8"
    seen.clear()
    assert variants.prepare("int8", str(source), cache, seen.append) == location
    assert seen == []


def test_a_changed_source_is_built_anew(source: Path, cache: Path) -> None:
    location = Path(variants.prepare("q8_0", str(source), cache))
    first = (location / FILE_NAME).read_bytes()
    write_source(source, seed=1)
    assert Path(variants.prepare("q8_0", str(source), cache)) == location
    assert (location / FILE_NAME).read_bytes() != first


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_build_is_built_anew(source: Path, cache: Path, damage: str) -> None:
    location = Path(variants.prepare("int8", str(source), cache))
    weights = next(location.glob("*.safetensors"))
    original = weights.read_bytes()
    if damage == "truncate":
        weights.write_bytes(original[:-1])
    elif damage == "remove":
        weights.unlink()
    else:
        (location / FILE_NAME).write_text("{}", encoding="utf-8")
    variants.prepare("int8", str(source), cache)
    assert weights.read_bytes() == original


def test_a_build_by_another_recipe_is_built_anew(source: Path, cache: Path) -> None:
    folder = Path(variants.prepare("int8", str(source), cache))
    expected = (folder / "manifest.json").read_bytes()
    opened = open_source(source)
    naive = choose("int8", opened.config)
    layers = {
        name: Part((*part.layers[:-1], replace(part.layers[-1], reason="another")), ()) for name, part in naive.parts.items()
    }
    variants.quantize(opened, replace(naive, parts=layers), folder, overwrite=True)
    assert (folder / "manifest.json").read_bytes() != expected
    assert variants.prepare("int8", str(source), cache) == str(folder)
    assert (folder / "manifest.json").read_bytes() == expected


def test_cancelling_leaves_nothing_behind(source: Path, cache: Path) -> None:
    def cancel(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        variants.prepare("int8", str(source), cache, cancel)
    assert names_of(cache) == []
    assert variants.catalogue(str(source), cache)[1].location is None


def test_two_at_once_build_once(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = []
    quantize = variants.quantize

    def counted(*args: object, **options: object) -> object:
        builds.append(args)
        return quantize(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(variants, "quantize", counted)
    threads = [threading.Thread(target=variants.prepare, args=("int8", str(source), cache)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(builds) == 1
    assert variants.catalogue(str(source), cache)[1].location is not None


def test_two_sources_do_not_share_a_folder(tmp_path: Path, cache: Path) -> None:
    folders = {variants.prepare("int8", str(write_source(tmp_path / name, seed=i)), cache) for i, name in enumerate("ab")}
    assert len(folders) == 2


def test_artifacts_made_elsewhere_get_names_of_their_own(source: Path, cache: Path, tmp_path: Path) -> None:
    build = variants.prepare("int8", str(source), cache)
    folders = [Path(shutil.copytree(build, tmp_path / name)) for name in ("First try", "second")]
    first, second = variants.given(folders, str(source))
    assert (first.name, second.name) == ("int8-first-try", "int8-second")
    assert first.location == str(folders[0]) and first.format == "from First try"
    assert first.size_bytes == variants.catalogue(str(source), cache)[1].size_bytes
    with pytest.raises(RequestError, match="second is given twice"):
        variants.given([folders[1], folders[1]], str(source))


def test_an_artifact_of_another_source_is_refused(source: Path, cache: Path, tmp_path: Path) -> None:
    build = Path(variants.prepare("int8", str(source), cache))
    other = write_source(tmp_path / "other", seed=1)
    with pytest.raises(RequestError, match=r"int8 was made from .*source, not from .*other"):
        variants.given([build], str(other))
    moved = source.rename(tmp_path / "moved")
    assert variants.given([build], str(moved))[0].name == "int8-int8"
    with pytest.raises(ArtifactError):
        variants.given([tmp_path], str(moved))


def test_an_unknown_variant_is_refused(source: Path, cache: Path) -> None:
    with pytest.raises(RequestError, match=r"unknown variant 'fp4'; expected one of fp8, int8, q8_0, q4_k_s"):
        variants.prepare("fp4", str(source), cache)


def test_the_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(variants.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    assert variants.default_cache() == tmp_path / "ideogram-q8" / "variants"


def test_gguf_files_of_others_are_variants_too(tmp_path: Path) -> None:
    from tests.gguf_files import write_branch

    source = open_source("pocket")
    for name, branch in (("ideogram4-Q4_0.gguf", BRANCHES[0]), ("ideogram4_uncond-Q4_0.gguf", BRANCHES[1])):
        write_branch(tmp_path / name, source.branch(branch), ("q4_0",))
    (found,) = variants.given([tmp_path / "ideogram4-Q4_0.gguf"], "pocket")
    assert (found.name, found.title, found.format) == ("gguf-q4_0", "ideogram4-Q4_0", "gguf-q4_0 · of unknown origin")
    assert found.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    with pytest.raises(RequestError, match="is given twice"):
        variants.given([tmp_path / "ideogram4-Q4_0.gguf"] * 3, "pocket")
