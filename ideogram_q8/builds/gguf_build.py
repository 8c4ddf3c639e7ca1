"""GGUF files that someone else has made, as networks by official names: stable-diffusion.cpp's, ComfyUI-GGUF's, llama.cpp's.

    transformers    one file a branch, or one for both, official fused names, mostly without any metadata (stable-diffusion.cpp writes none,
                    ComfyUI-GGUF's `general.architecture` is "ideogram4" or "ideogram" by its open pull requests), so that tensors
                    tell what a file is; prefixes as in `checkpoint.layouts`
    text encoder    Qwen3-VL's language model in llama.cpp's names (`artifact.gguf_text_encoder`)

Any tensor may be of any type that `numerics.ggml` decodes. What the files were made from is not known: there is no manifest, and
nothing in them could vouch for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ideogram_q8.builds import gguf_text_encoder
from ideogram_q8.builds.packed import GgmlWeight
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.gguf_header import GgufTensor
from ideogram_q8.formats.gguf_reader import GgufFile, shard_paths
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.model.architecture import BRANCHES, Branch, PartName, TransformerConfig
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, TextEncoderConfig, component
from ideogram_q8.numerics import ggml
from ideogram_q8.sources import dimensions, pairs, prefixes

UNKNOWN = "unknown"
"""What a build says of its source where nothing is known."""
_PROBLEMS_SHOWN = 5
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


class GgufWeights:
    """One network of a GGUF file by official names. A tensor is read when asked for, and not kept.

    Attributes:
        files: its weight files, all shards.
        names: the base tensors.
    """

    def __init__(self, file: GgufFile, stored: Mapping[str, GgufTensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`stored` are the file's tensors by official name. Raises ArtifactError: they are not of these shapes."""
        self._file, self._stored, self._shapes = file, dict(stored), dict(shapes)
        self.files, self.names = file.files, tuple(shapes)
        problems = [f"{name} is missing" for name in shapes if name not in stored]
        problems += [f"{name} is unknown" for name in stored if name not in shapes]
        problems += [problem for name in shapes if name in stored for problem in self._problems(name)]
        if problems:
            more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
            raise ArtifactError(
                f"{self.files[0]} is not of the model that its dimensions or its source's config.json describe: "
                f"{'; '.join(problems[:_PROBLEMS_SHOWN])}{more}; check which files belong together"
            )

    def read(self, name: str) -> torch.Tensor:
        """The values in the type they are stored in, float32 where that is a block type."""
        tensor = self._stored[name]
        data = self._file.read(tensor.name)
        if tensor.block.name in ggml.BLOCKS:
            data = ggml.decode(data, tensor.block)
        return data.reshape(self._shapes[name])

    def packed(self, name: str) -> GgmlWeight | None:
        """The matrix `name`.weight in its blocks; None where it is stored plainly."""
        tensor, shape = self._stored[f"{name}.weight"], self._shapes[f"{name}.weight"]
        if tensor.block.name not in ggml.BLOCKS or len(shape) != 2:
            return None
        rows, width = shape
        return GgmlWeight(
            self._file.read(tensor.name).reshape(rows, tensor.block.row_bytes(width)), tensor.block.name, (rows, width)
        )

    def scheme(self, linear: str) -> str:
        """The type that a Linear's weight is stored in."""
        return self._stored[f"{linear}.weight"].block.name

    @property
    def blocks(self) -> Counter[str]:
        """Bytes of the matrices by their types."""
        found: Counter[str] = Counter()
        for name, shape in self._shapes.items():
            if len(shape) == 2:
                found[self._stored[name].block.name] += self._stored[name].nbytes
        return found

    def _problems(self, name: str) -> list[str]:
        tensor, shape = self._stored[name], self._shapes[name]
        given = self._file.values.get(f"{_ORIGINAL_SHAPE}{tensor.name}", tensor.shape)
        if given == shape and tensor.count == math.prod(shape) and shape[-1] % tensor.block.block_size == 0:
            return []
        return [f"{name} is {tensor.dtype} {list(tensor.shape)}, expected {list(shape)}"]


@dataclass(frozen=True)
class GgufBuild:
    """Both branches, or the text encoder."""

    config: Dimensions
    parts: Mapping[PartName, GgufWeights]

    @property
    def has_blocks(self) -> bool:
        """Whether the build holds ggml's blocks, as `Artifact.has_blocks` says of other builds."""
        names = [linear.name for linear in component(self.config).linears]
        stored = (
            weights.scheme(name) for weights in self.parts.values() for name in names if f"{name}.weight" in weights.names
        )
        return any(scheme in ggml.BLOCKS for scheme in stored)

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The transformers that the files hold; none of a text encoder."""
        return tuple(branch for branch in BRANCHES if branch in self.parts)

    def branch(self, part: PartName) -> GgufWeights:
        """The weights of a branch, or of the text encoder."""
        return self.parts[part]

    @property
    def transformer_config(self) -> TransformerConfig:
        """The dimensions of the transformers, which this must be of."""
        assert isinstance(self.config, TransformerConfig)
        return self.config

    @property
    def text_encoder_config(self) -> TextEncoderConfig:
        """The dimensions of the text encoder, which this must be of."""
        assert isinstance(self.config, TextEncoderConfig)
        return self.config

    @property
    def variant(self) -> str:
        """`gguf-q4_k`, by the type that most bytes are of: whoever made it may call it otherwise."""
        total: Counter[str] = sum((weights.blocks for weights in self.parts.values()), Counter())
        return f"gguf-{total.most_common(1)[0][0]}"

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The sha256 of each file, shard by shard."""
        found = {
            path: sha256_of(path) for path in dict.fromkeys(path for weights in self.parts.values() for path in weights.files)
        }
        return tuple(found[path] for weights in self.parts.values() for path in weights.files)


def is_gguf(location: str | Path) -> bool:
    """Whether a location is meant as a GGUF file, by its name."""
    return Path(location).suffix.lower() == ".gguf"


def open_transformers(
    conditional: Path,
    unconditional: str | Path | None = None,
    config: TransformerConfig | None = None,
    *,
    as_given: bool = False,
) -> GgufBuild:
    """The pair of transformers in two GGUF files, or in one; or one transformer alone.

    Args:
        unconditional: found by its name beside the first where it is not given (`other_branch`); `pairs.NONE` is no other one.
        config: the model's dimensions; without them shapes tell, where heads are as wide as Ideogram 4's.
        as_given: leaves out the check that the two are not swapped (`pairs.check`).

    Raises:
        ArtifactError: a file is missing, broken, of another model or of the other branch.
    """
    try:
        files, named = _read_pair(conditional, unconditional)
        found = config or dimensions.from_shapes(named["conditional"], conditional)
        shapes = component(found).shapes
        parts: dict[PartName, GgufWeights] = {b: GgufWeights(file, named[b], shapes) for b, file in files.items()}
        if not as_given and len(set(files.values())) == len(files):
            members = [pairs.Member(file.files, file.metadata(), parts[b].read) for b, file in files.items()]
            pairs.check_alone(*members) if len(members) == 1 else pairs.check(*members)
    except SourceError as error:
        raise ArtifactError(str(error)) from None
    return GgufBuild(found, parts)


def _read_pair(
    conditional: Path, unconditional: str | Path | None
) -> tuple[dict[Branch, GgufFile], dict[Branch, dict[str, GgufTensor]]]:
    """The branches' files, which may be one, and their tensors by official names."""
    if not conditional.exists():
        raise ArtifactError(f"there is no file {conditional}; check the path")
    first, where = GgufFile(conditional), str(conditional)
    if pairs.is_none(unconditional):
        return {"conditional": first}, {"conditional": _own_names(first)}
    both = prefixes.by_branch(prefixes.find(first.stored, where), where)
    if both is not None and unconditional is None:
        swapped: dict[Branch, str] = {"conditional": both["unconditional"], "unconditional": both["conditional"]}
        names = {branch: prefixes.own_names(first.stored, both[branch], where, swapped[branch]) for branch in BRANCHES}
        return dict.fromkeys(BRANCHES, first), names
    second = GgufFile(Path(unconditional).expanduser() if unconditional else other_branch(conditional))
    files: dict[Branch, GgufFile] = {"conditional": first, "unconditional": second}
    return files, {branch: _own_names(file) for branch, file in files.items()}


def _own_names(file: GgufFile) -> dict[str, GgufTensor]:
    """The tensors of a file with one transformer."""
    where = str(file.files[0])
    return prefixes.own_names(file.stored, prefixes.single(file.stored, where), where)


def other_branch(conditional: Path) -> Path:
    """`pairs.other_branch` of GGUF files and their shards. Raises ArtifactError: there is not exactly one."""
    try:
        return pairs.other_branch(conditional, shard_paths)
    except SourceError as error:
        raise ArtifactError(str(error)) from None


def open_text_encoder(path: Path, config: TextEncoderConfig) -> GgufBuild:
    """The text encoder's language model in a GGUF file with llama.cpp's names, for a model of these dimensions.

    Raises:
        ArtifactError: the file is missing, broken or of another model.
    """
    file = GgufFile(path)
    gguf_text_encoder.check_values(file.values, config, str(path))
    shapes = {name: shape for name, shape in component(config).shapes.items() if name.startswith(LANGUAGE_MODEL)}
    official = {gguf_text_encoder.stored_name(name): name for name in shapes}
    stored = {
        official.get(name, name): tensor for name, tensor in file.stored.items() if name not in gguf_text_encoder.NOT_NEEDED
    }
    return GgufBuild(config, {"text_encoder": GgufWeights(file, stored, shapes)})
