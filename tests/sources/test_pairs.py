"""Two transformers that are swapped, or one that is given twice, are refused with the reason; a wrong guess can be overruled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ideogram_q8.__main__ import main
from ideogram_q8.builds.gguf_build import open_transformers
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS
from ideogram_q8.sources import open_source
from ideogram_q8.sources.pairs import named_branch
from tests.gguf_files import write_branch
from tests.synthetic import TINY, WIDE_HEAD, fp8_tensors, write_source

NORM = "llm_cond_norm.weight"


def write(path: Path, seed: int, metadata: dict[str, str] | None = None, *, untouched: bool = False) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    tensors = fp8_tensors(WIDE_HEAD, seed)
    if untouched:
        tensors[NORM] = torch.ones_like(tensors[NORM])
    save_file(tensors, path, metadata)
    return path


def by_metadata(folder: Path) -> tuple[Path, Path]:
    said = "ideogram4_uncond", "ideogram4_cond"
    return write(folder / "a", 0, {"model_type": said[0]}), write(folder / "b", 1, {"model_type": said[1]})


def by_our_metadata(folder: Path) -> tuple[Path, Path]:
    return write(folder / "a", 0), write(folder / "b", 1, {"ideogram_q8.branch": "conditional"})


def by_names(folder: Path) -> tuple[Path, Path]:
    return write(folder / "ideogram4-uncond.safetensors", 0), write(folder / "ideogram4.safetensors", 1)


def by_the_second_name(folder: Path) -> tuple[Path, Path]:
    return write(folder / "one.safetensors", 0), write(folder / "ideogram4_cond_fp8.safetensors", 1)


def by_folders(folder: Path) -> tuple[Path, Path]:
    first, second = (COMPONENT_FOLDERS[branch] for branch in BRANCHES)
    return write(folder / second / "x.safetensors", 0), write(folder / first / "x.safetensors", 1)


def by_weights(folder: Path) -> tuple[Path, Path]:
    return write(folder / "a", 0, untouched=True), write(folder / "b", 1)


def twice(folder: Path) -> tuple[Path, Path]:
    path = write(folder / "a", 0)
    return path, path


def copied(folder: Path) -> tuple[Path, Path]:
    return write(folder / "a", 0), write(folder / "b", 0)


REASONS: dict[Callable[[Path], tuple[Path, Path]], str] = {
    by_metadata: "a says that it is the unconditional one, expected the conditional one; swap the two files",
    by_our_metadata: "b says that it is the conditional one, expected the unconditional one; swap the two files",
    by_names: "ideogram4-uncond.safetensors is the unconditional one by its name",
    by_the_second_name: "ideogram4_cond_fp8.safetensors is the conditional one by its name",
    by_folders: "is the unconditional one by its name",
    by_weights: "a has a text projection that was never trained",
    twice: "are one and the same transformer",
    copied: "are one and the same transformer",
}


@pytest.mark.parametrize("make", REASONS, ids=lambda make: make.__name__)
def test_the_reason_is_told_and_can_be_overruled(tmp_path, make):
    first, second = make(tmp_path)
    with pytest.raises(SourceError) as caught:
        open_source(first, unconditional=second)
    assert REASONS[make] in str(caught.value) and "--as-given" in str(caught.value)
    assert open_source(first, unconditional=second, as_given=True).branch("conditional").path == first
    if first != second and make is not copied:
        assert open_source(second, unconditional=first).branch("conditional").path == second


def test_a_command_can_overrule(tmp_path, capsys):
    first, second = by_names(tmp_path)
    arguments = ["inspect", str(first), "--unconditional", str(second)]
    assert main(arguments) == 2
    assert "swap the two files, or use --as-given" in capsys.readouterr().err
    assert main([*arguments, "--as-given"]) == 0


def test_what_files_say_of_themselves_counts_more_than_their_names(tmp_path):
    first = write(tmp_path / "uncond.safetensors", 0, {"model_type": "ideogram4_cond"})
    second = write(tmp_path / "cond.safetensors", 1, {"model_type": "ideogram4_uncond"})
    assert open_source(first, unconditional=second).branch("conditional").path == first


@pytest.mark.parametrize("untouched", [(False, False), (False, True), (True, True)])
def test_projections_that_tell_nothing_are_taken(tmp_path, untouched):
    first, second = (
        write(tmp_path / name, i, untouched=bare) for i, (name, bare) in enumerate(zip("ab", untouched, strict=True))
    )
    open_source(first, unconditional=second)


def test_both_files_in_one_folder_of_a_branch_are_taken(tmp_path):
    folder = tmp_path / COMPONENT_FOLDERS["conditional"]
    open_source(write(folder / "a", 0), unconditional=write(folder / "b", 1))


def test_a_tree_with_one_transformer_twice_is_refused(tmp_path):
    folder = write_source(tmp_path / "s")
    first, second = (folder / COMPONENT_FOLDERS[branch] / "diffusion_pytorch_model.safetensors" for branch in BRANCHES)
    save_file(load_file(first), second, {"format": "pt"})
    with pytest.raises(SourceError, match="are one and the same transformer"):
        open_source(folder)
    assert open_source(folder, as_given=True).config == TINY


@pytest.mark.parametrize("name", ["twice", "names"])
def test_gguf_files_are_checked_too(source, tmp_path, name):
    paths = (tmp_path / "m-uncond.gguf", tmp_path / "m.gguf") if name == "names" else (tmp_path / "a.gguf", tmp_path / "b.gguf")
    for path, branch in zip(paths, BRANCHES, strict=True):
        write_branch(path, source.branch("conditional" if name == "twice" else branch), ("q8_0",))
    with pytest.raises(ArtifactError, match=r"(one and the same transformer|is the unconditional one by its name).*--as-given"):
        open_transformers(*paths, TINY)
    assert open_transformers(*paths, TINY, as_given=True).config == TINY


@pytest.mark.parametrize(
    ("prefixes"), [("model.diffusion_model.", "model.diffusion_model.uncond."), ("", "uncond."), ("cond.", "uncond.")]
)
def test_one_gguf_may_hold_both(source, tmp_path, prefixes):
    from tests.gguf_files import write_gguf

    both = {}
    for prefix, branch in zip(prefixes, BRANCHES, strict=True):
        found = write_branch(tmp_path / f"{branch}.gguf", source.branch(branch), ("q8_0",))
        both |= {prefix + name: value for name, value in found.items()}
    build = open_transformers(write_gguf(tmp_path / "both.gguf", both), config=TINY)
    for branch in BRANCHES:
        for name in ("llm_cond_norm.weight", "layers.1.ffn_norm1.weight"):
            assert torch.equal(build.branch(branch).read(name).float(), source.branch(branch).read(name).float())
    assert len(build.digests) == 2 and len(set(build.digests)) == 1
    with pytest.raises(ArtifactError, match="holds both transformers; name it by itself"):
        open_transformers(tmp_path / "both.gguf", tmp_path / "unconditional.gguf", TINY)


@pytest.mark.parametrize(
    ("name", "branch"),
    [
        ("ideogram4-unconditional-int8.safetensors", "unconditional"),
        ("ideogram4_uncond-Q8_0.gguf", "unconditional"),
        ("Ideogram4_COND_fp8.gguf", "conditional"),
        ("conditional.safetensors", "conditional"),
        ("air-conditioner.safetensors", None),
        ("second-condensed.gguf", None),
        ("diffusion_pytorch_model.safetensors", None),
    ],
)
def test_names_tell_a_branch_by_whole_words(name, branch):
    assert named_branch(Path(name)) == branch
