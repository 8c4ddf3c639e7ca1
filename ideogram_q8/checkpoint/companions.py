"""What a build needs of a checkpoint beside its own weights: text encoder, tokenizer, VAE, and what the model was made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ideogram_q8.architecture import COMPONENT_FOLDERS, Traits, TransformerConfig
from ideogram_q8.checkpoint import dimensions, hub
from ideogram_q8.checkpoint.source import find_tree, origin, read_traits
from ideogram_q8.errors import SourceError

_FOLDERS = ("text_encoder", "tokenizer", "vae")


@dataclass(frozen=True)
class Companions:
    """Where they are: `location` as `open_source` takes it, `folder` on this disk. `config` is None without a transformer/config.json."""

    location: str
    folder: Path
    traits: Traits
    config: TransformerConfig | None


def open_companions(location: str | Path, *, revision: str | None = None) -> Companions:
    """Those of `pocket`, of a folder in the official tree, or of a repository on the Hugging Face Hub. Opens no weights.

    Raises:
        SourceError: the folder is missing, lacks one of the parts, or the Hub refuses.
    """
    folder = find_tree(str(location), revision, f"a folder with {', '.join(_FOLDERS)}", hub.COMPANIONS)
    for name in _FOLDERS:
        if not (folder / name).is_dir():
            raise SourceError(
                f"{folder} has no folder {name}; expected one with {', '.join(_FOLDERS)}, which a build of the transformers does "
                "not hold: name the checkpoint as the source, with --source"
            )
    path = folder / COMPONENT_FOLDERS["conditional"] / "config.json"
    config = dimensions.from_config(path, TransformerConfig) if path.is_file() else None
    return Companions(origin(folder)[0], folder, read_traits(folder), config)
