"""What a build needs of a checkpoint beside its own weights: text encoder, tokenizer, VAE, and what the model was made for."""

from __future__ import annotations

from pathlib import Path

from ideogram_q8.errors import SourceError
from ideogram_q8.hub import client as hub
from ideogram_q8.model.architecture import COMPONENT_FOLDERS, TransformerConfig
from ideogram_q8.sources import dimensions
from ideogram_q8.sources.source import Companions, find_tree, origin, read_traits

_FOLDERS = ("text_encoder", "tokenizer", "vae")


def open_companions(location: str | Path, *, revision: str | None = None) -> Companions:
    """Opens the companions of `pocket`, of a folder in the official tree, or of a repository on the Hugging Face Hub, without weights.

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
