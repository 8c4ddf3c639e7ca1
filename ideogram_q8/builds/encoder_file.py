"""A text encoder in one safetensors file without a manifest, ours or ComfyUI's: int8, FP8 or plain, by official names.

ComfyUI's and transformers' files put "model." before the names and may have a vision tower and a head, which captions do not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.builds.source_weights import SourceWeights
from ideogram_q8.errors import ArtifactError
from ideogram_q8.model.architecture import TransformerConfig
from ideogram_q8.model.components import TextEncoderConfig
from ideogram_q8.sources import TextEncoderSource, open_text_encoder_file


@dataclass(frozen=True)
class EncoderFile:
    """A file with a text encoder alone, opened with the methods of a `GgufBuild`."""

    source: TextEncoderSource

    has_blocks = False

    def branch(self, part: str) -> SourceWeights:
        """The weights of the language model. Raises ArtifactError: another part is asked for."""
        if part != "text_encoder":
            raise ArtifactError(f"{self.source.location} holds a text encoder; expected transformers")
        return SourceWeights(self.source.branch("text_encoder"))

    @property
    def text_encoder_config(self) -> TextEncoderConfig:
        return self.source.config

    @property
    def transformer_config(self) -> TransformerConfig:
        """Raises ArtifactError: it has no transformers."""
        raise ArtifactError(f"{self.source.location} holds a text encoder; expected transformers")

    @property
    def variant(self) -> str:
        """The format that most weights are stored in, as `Source.variant`."""
        return self.source.variant

    @property
    def digests(self) -> tuple[str, ...]:
        """The sha256 of the file."""
        return tuple(self.source.record().files.values())


def open_encoder_file(path: Path, config: TextEncoderConfig) -> EncoderFile:
    """Raises SourceError: the file is missing, broken or not of a text encoder of these dimensions."""
    return EncoderFile(open_text_encoder_file(path, config))
