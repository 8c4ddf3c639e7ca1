"""What one branch, or the text encoder, becomes: its files, what their headers say, and the arithmetic of a few rows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.builds import gguf_text_encoder, layout
from ideogram_q8.builds.layout import Packaging, PlannedFile
from ideogram_q8.errors import ArtifactError
from ideogram_q8.formats.gguf_writer import KeyValue
from ideogram_q8.formats.manifest import TOOL_VERSION, TensorRecord
from ideogram_q8.hub.client import is_repository
from ideogram_q8.model.architecture import PartName
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.model.schemes import GGUF_SCHEMES
from ideogram_q8.numerics.ggml import BLOCKS
from ideogram_q8.recipes import Recipe
from ideogram_q8.recipes.folding import Folding
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.sources import Checkpoint
from ideogram_q8.sources.pairs import MODEL_TYPES

_PIECE = 1 << 20
"""Elements of a tensor that are read, computed and written together on a CPU: what fits in its cache."""
_PIECE_ELSEWHERE = 1 << 24
"""The same on a card, where a search is some 3,500 launches whatever the piece: as many as `numerics.ggml` encodes at a time."""
_HALF_MAX = 65504.0
_MODEL_TYPES: Mapping[PartName, str] = {branch: said for said, branch in MODEL_TYPES.items()}
"""What Comfy-Org's files say, and musubi-tuner reads."""
_NO_SHA256 = "0" * 64
"""Stands in the header for the source's sha256 until that is known."""


@dataclass(frozen=True)
class Piece:
    """Rows of a source tensor (of a vector, elements)."""

    name: str
    start: int
    stop: int
    last: bool


class PartJob:
    """What a part becomes. Without state, for any number of threads."""

    def __init__(
        self,
        source: Checkpoint,
        recipe: Recipe,
        part: PartName,
        device: str,
        importance: Importance | None,
        packaging: Packaging,
    ) -> None:
        self.source, self.recipe, self.part, self.device = source, recipe, part, device
        self.reader = source.branch(part)
        self.stored = layout.stored_tensors(source.config, recipe, part)
        self.container = layout.container(recipe.scheme)
        self._packaging = packaging
        self._values = self._header_values()
        self.files = self.plan(_NO_SHA256)
        self._offsets = {name: offset for file in self.files for name, offset in file.placement.offsets.items()}
        self._folding = Folding(recipe.parts[part], source.config)
        self._plans = {f"{layer.linear}.weight": layer for layer in recipe.parts[part].layers}
        self._importance = (
            {name: importance.of(part, plan.linear).to(device) for name, plan in self._plans.items() if plan.weighted}
            if importance is not None
            else {}
        )

    def plan(self, source_sha256: str) -> tuple[PlannedFile, ...]:
        """The files; what a header says of the source has one length, whatever it is."""
        records = [record for records in self.stored.values() for record in records]
        metadata = self._metadata(source_sha256)
        return layout.plan_files(self.recipe, self.part, records, metadata, self._packaging, self._values)

    def _header_values(self) -> tuple[KeyValue, ...]:
        """Key-values of a text encoder's GGUF file: what llama.cpp wants to know of the model, and the source's tokenizer."""
        config = self.source.config
        if not isinstance(config, TextEncoderConfig) or self.recipe.scheme not in GGUF_SCHEMES:
            return ()
        return gguf_text_encoder.key_values(config, self.source.folder / "tokenizer")

    def _metadata(self, source_sha256: str) -> dict[str, str]:
        """No paths of this machine: equal sources give equal files wherever they lie. A Hub repository is the same everywhere."""
        metadata = {
            layout.BRANCH_KEY: self.part,
            "ideogram_q8.tool_version": TOOL_VERSION,
            "ideogram_q8.source_sha256": source_sha256,
            "ideogram_q8.recipe_sha256": self.recipe.sha256,
        }
        if self.part in _MODEL_TYPES:
            metadata = {"model_type": _MODEL_TYPES[self.part], **metadata}
        return {**metadata, **self._provenance()} if self.recipe.scheme in GGUF_SCHEMES else metadata

    def _provenance(self) -> dict[str, str]:
        """Keys of the GGUF specification, and what else made the numbers."""
        found = {
            "general.type": "model",
            "general.name": f"{self.source.traits.name} {self.part}",
            "general.quantized_by": f"ideogram-q8 {TOOL_VERSION}",
            "ideogram_q8.variant": self.recipe.variant,
        }
        if self.source.revision is not None and is_repository(self.source.location):
            found["general.source.repo_url"] = f"https://huggingface.co/{self.source.location}"
            found["ideogram_q8.source_revision"] = self.source.revision
        if any(plan.weighted for plan in self.recipe.parts[self.part].layers):
            found["ideogram_q8.importance_sha256"] = self.recipe.stats_sha256 or ""
        return found

    def size(self, name: str) -> int:
        """Bytes that a source tensor becomes."""
        return sum(self.container.stored_bytes(record) for record in self.stored[name])

    def names(self, file: PlannedFile) -> list[str]:
        """The source tensors that a file holds."""
        held = {record.name for record in file.records}
        return [name for name, records in self.stored.items() if records[0].name in held]

    def pieces(self, file: PlannedFile, done: Mapping[str, int]) -> Iterator[Piece]:
        """What is left of a file, in its order."""
        for name in self.names(file):
            rows, *others = self.reader.shape(name)
            step = max(1, (_PIECE if self.device == "cpu" else _PIECE_ELSEWHERE) // math.prod(others))
            for start in range(0, rows if name not in done else 0, step):
                yield Piece(name, start, min(start + step, rows), start + step >= rows)

    def compute(self, piece: Piece) -> list[tuple[int, torch.Tensor]]:
        """The piece as it is stored: tensors in main memory, and the offset of each in its file."""
        rows = self.reader.read_rows(piece.name, piece.start, piece.stop).to(self.device)
        folded = self._folding.apply(piece.name, rows, piece.start)
        records = self.stored[piece.name]
        scheme = records[0].scheme
        if folded is not rows or scheme in BLOCKS or scheme == "f16":
            _check_values(folded, f"{self.reader.path}: {piece.name}", scheme)
        parts = layout.pack(folded, self._plans.get(piece.name), scheme, self._importance.get(piece.name))
        return [self._put(record, packed, piece) for record, packed in zip(records, parts, strict=True)]

    def _put(self, record: TensorRecord, packed: torch.Tensor, piece: Piece) -> tuple[int, torch.Tensor]:
        size = self.container.stored_bytes(record)
        # what is stored once for the tensor comes whole with each piece
        begin = 0 if packed.nbytes == size else size // self.reader.shape(piece.name)[0] * piece.start
        return self._offsets[record.name] + begin, packed.cpu()

    def is_sound(self, file: PlannedFile, path: Path, done: Mapping[str, int]) -> bool:
        """Whether an earlier run wrote tensors of this file, and it has its size, and the tensor that came last its bytes."""
        name, check = list(done.items())[-1]
        if not done.keys() <= set(self.names(file)) or not path.is_file() or path.stat().st_size != file.placement.size:
            return False
        record = self.stored[name][0]
        with path.open("rb") as opened:
            opened.seek(file.placement.offsets[record.name])
            return zlib.crc32(opened.read(self.container.stored_bytes(record))) == check


def _check_values(tensor: torch.Tensor, where: str, scheme: str) -> None:
    largest = tensor.abs().max().item()
    if not math.isfinite(largest):
        raise ArtifactError(f"{where} leaves bfloat16's range by the recipe's smoothing; make the recipe again")
    if (scheme in BLOCKS or scheme == "f16") and largest > _HALF_MAX:
        kind = "is float16" if scheme == "f16" else "has float16 scales"
        raise ArtifactError(f"{where} reaches {largest:g}; {scheme} {kind}: use int8, or check the source")
