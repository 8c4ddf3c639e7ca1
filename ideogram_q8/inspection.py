"""What a location is, as plain data for people and programs: a checkpoint, an artifact or a picture.

Reads headers, manifests and metadata, never weights, so it answers at once for 20 GB. What each file must be is known to its
own reader; here it is only told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from ideogram_q8.architecture import BRANCHES, Traits, linears, tensor_shapes
from ideogram_q8.errors import printable
from ideogram_q8.latent_norm import SAID, latent_norm


def describe(location: str, *, unconditional: str | None = None, revision: str | None = None) -> dict[str, object]:
    """What `pocket`, a folder, a Hub repository, a GGUF file or a PNG is; `kind` says "source", "artifact", "gguf" or "picture".

    Values are JSON. `unconditional` and `revision` are those of `open_source`, for a checkpoint alone.

    Raises:
        SourceError, ArtifactError, RequestError: nothing is there, or it is not what it claims to be.
    """
    path = Path(location)
    if location == "pocket" or unconditional is not None or revision is not None:  # whatever lies here under that name
        return _describe_source(location, unconditional, revision)
    if path.suffix.lower() == ".gguf":
        return _describe_gguf(path)
    if path.is_file():
        return _describe_picture(path)
    if (path / "manifest.json").is_file():
        return _describe_artifact(path)
    return _describe_source(location, None, None)


def to_json(found: Mapping[str, object]) -> str:
    """Indented JSON, keys in their order."""
    return json.dumps(found, indent=2, ensure_ascii=False)


def to_text(found: Mapping[str, object]) -> str:
    """One `key: value` a line, deeper levels indented."""
    return "\n".join(_lines(found, ""))


def _lines(value: Mapping[str, object], indent: str) -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from _lines(item, indent + "  ")
        elif isinstance(item, int) and not isinstance(item, bool) and item >= 10_000 and key != "seed":
            yield f"{indent}{key}: {item:,}"
        else:
            yield f"{indent}{printable(key)}: {'none' if item is None else printable(str(item))}"


def _describe_source(location: str, unconditional: str | None, revision: str | None) -> dict[str, object]:
    from ideogram_q8.checkpoint import open_source

    source = open_source(location, unconditional=unconditional, revision=revision)
    shapes = tensor_shapes(source.config)
    return {
        "kind": "source",
        **_describe_traits(source.traits),
        "location": source.location,
        "revision": source.revision,
        "folder": str(source.folder),
        "layout": source.branch("conditional").layout,
        "transformer": source.config.to_json(),
        "latents": f"denormalised by {SAID[latent_norm(source.traits, source.config)]}",
        "branches": ", ".join(BRANCHES),
        "tensors_per_branch": len(shapes),
        "linears_per_branch": len(linears(source.config)),
        "parameters_per_branch": sum(map(math.prod, shapes.values())),
    }


def _describe_artifact(folder: Path) -> dict[str, object]:
    from ideogram_q8.artifact import open_artifact

    manifest = open_artifact(folder).manifest
    return {
        "kind": "artifact",
        **_describe_traits(manifest.traits),
        "folder": str(folder),
        "variant": manifest.variant,
        "scheme": manifest.scheme,
        "artifact_sha256": manifest.artifact_sha256,
        "source": manifest.source.location,
        "source_revision": manifest.source.revision,
        "tool_version": manifest.tool_version,
        "files": {file.path: {"branch": file.branch, "bytes": file.size, "sha256": file.sha256} for file in manifest.files},
    }


def _describe_gguf(path: Path) -> dict[str, object]:
    """One file, or the shards of one, whoever made it; what nothing in it tells is "unknown"."""
    from collections import Counter

    from ideogram_q8.artifact.gguf_build import UNKNOWN
    from ideogram_q8.artifact.gguf_reader import GgufFile

    opened = GgufFile(path)
    said = opened.metadata()
    return {
        "kind": "gguf",
        "files": {found.name: {"bytes": found.stat().st_size} for found in opened.files},
        "architecture": said.get("general.architecture", UNKNOWN),
        "branch": said.get("ideogram_q8.branch", said.get("model_type", UNKNOWN)),
        "made_by": said.get("general.quantized_by", UNKNOWN),
        "source_sha256": said.get("ideogram_q8.source_sha256", UNKNOWN),
        "recipe_sha256": said.get("ideogram_q8.recipe_sha256", UNKNOWN),
        "tensors": dict(Counter(tensor.dtype for tensor in opened.stored.values())),
        "parameters": sum(tensor.count for tensor in opened.stored.values()),
    }


def _describe_picture(path: Path) -> dict[str, object]:
    from ideogram_q8.png import read_metadata

    return {"kind": "picture", **read_metadata(path)}


def _describe_traits(traits: Traits) -> dict[str, object]:
    width, height = traits.default_size
    return {
        "name": traits.name,
        "sides": f"{traits.min_side} to {traits.max_side} pixels",
        "default_size": f"{width}x{height}",
    }
