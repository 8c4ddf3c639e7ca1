"""GGUF files that someone else has made, as networks by official names: stable-diffusion.cpp's, ComfyUI-GGUF's, llama.cpp's.

    transformers    one file a branch, official fused names, mostly without any metadata (stable-diffusion.cpp writes none,
                    ComfyUI-GGUF's `general.architecture` is "ideogram4" or "ideogram" by its open pull requests), so that tensors
                    tell what a file is; prefixes as in `checkpoint.layouts`
    text encoder    Qwen3-VL's language model in llama.cpp's names (`artifact.gguf_text_encoder`)

Any tensor may be of any type that `numerics.ggml` decodes. What the files were made from is not known: there is no manifest, and
nothing in them could vouch for it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from ideogram_q8.builds import gguf_text_encoder
from ideogram_q8.builds.layout import BRANCH_KEY
from ideogram_q8.builds.packed import GgmlWeight
from ideogram_q8.errors import ArtifactError, SourceError
from ideogram_q8.formats.gguf_header import GgufTensor
from ideogram_q8.formats.gguf_reader import GgufFile, shard_paths
from ideogram_q8.formats.manifest import sha256_of
from ideogram_q8.model.architecture import BRANCHES, Branch, PartName, TransformerConfig
from ideogram_q8.model.components import LANGUAGE_MODEL, Dimensions, TextEncoderConfig, component
from ideogram_q8.numerics import ggml
from ideogram_q8.sources import dimensions, layouts

UNKNOWN = "unknown"
"""What a build says of its source where nothing is known."""
_MODEL_TYPES: Mapping[str, Branch] = {"ideogram4_cond": "conditional", "ideogram4_uncond": "unconditional"}
"""What `model_type` says in Comfy-Org's files, and in ours."""
_BRANCH_WORD = re.compile(r"[-_.]?(?:un)?cond(?:itional)?(?=[-_.])")
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
        return tuple(sha256_of(path) for weights in self.parts.values() for path in weights.files)


def is_gguf(location: str | Path) -> bool:
    """Whether a location is meant as a GGUF file, by its name."""
    return Path(location).suffix.lower() == ".gguf"


def open_transformers(
    conditional: Path, unconditional: Path | None = None, config: TransformerConfig | None = None
) -> GgufBuild:
    """The pair of transformers in two GGUF files.

    Args:
        unconditional: found by its name beside the first where it is not given (`other_branch`).
        config: the model's dimensions; without them shapes tell, where heads are as wide as Ideogram 4's.

    Raises:
        ArtifactError: a file is missing, broken, of another model or of the other branch.
    """
    paths: dict[Branch, Path] = {"conditional": conditional, "unconditional": unconditional or other_branch(conditional)}
    files = {branch: GgufFile(path) for branch, path in paths.items()}
    for branch, file in files.items():
        _check_branch(file, branch)
    try:
        stored = {branch: layouts.own_names(file.stored, str(paths[branch])) for branch, file in files.items()}
        found = config or dimensions.from_shapes(stored["conditional"], conditional)
    except SourceError as error:
        raise ArtifactError(str(error)) from None
    shapes = component(found).shapes
    return GgufBuild(found, {branch: GgufWeights(files[branch], stored[branch], shapes) for branch in BRANCHES})


def _check_branch(file: GgufFile, branch: Branch) -> None:
    """Against what the file says of itself, which most do not."""
    metadata = file.metadata()
    said = metadata.get(BRANCH_KEY) or _MODEL_TYPES.get(metadata.get("model_type", ""))
    if said not in (None, branch):
        raise ArtifactError(f"{file.files[0]} says that it is the {said} one, expected the {branch} one; swap the two files")


def other_branch(conditional: Path) -> Path:
    """The unconditional transformer's file beside the conditional one's, by the names in use.

    `ideogram4-Q8_0`, `ideogram4-transformer-q4_0`, `ideogram4_cond_Q5_K` go with `ideogram4_uncond-Q8_0`,
    `ideogram4-unconditional_transformer-q4_0`, `ideogram4_unconditional_Q5_K`: equal but for the branch's word and - for _.

    Raises:
        ArtifactError: `conditional` is named as the other one, or there is not exactly one file of such a name.
    """
    if _is_unconditional(conditional.name):
        raise ArtifactError(f"{conditional} is the unconditional one by its name; name the conditional one's file first")
    beside = conditional.parent.glob("*") if conditional.parent.is_dir() else ()
    others = sorted(path for path in beside if is_gguf(path) and _is_unconditional(path.name) and shard_paths(path)[0] == path)
    first = shard_paths(conditional)[0]
    found = [path for path in others if _without_branch(path.name) == _without_branch(first.name)]
    if len(found) != 1:
        seen = ", ".join(path.name for path in found or others) or "none"
        raise ArtifactError(
            f"{conditional} is one of two transformers, and the unconditional one beside it is not to be told from names "
            f"({seen[:300]}); name its file too"
        )
    return found[0]


def _is_unconditional(name: str) -> bool:
    return re.search(r"uncond", name, re.IGNORECASE) is not None


def _without_branch(name: str) -> str:
    return _BRANCH_WORD.sub("", name.lower()).replace("_", "-")


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
