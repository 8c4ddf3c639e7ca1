"""What a location is, as plain data for people and programs: a checkpoint, an artifact or a picture.

Reads headers, manifests and metadata, never weights, so it answers at once for 20 GB. What each file must be is known to its
own reader; here it is only told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ideogram_q8.errors import printable
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.model.architecture import Traits, linears, tensor_shapes
from ideogram_q8.model.latent_norm import SAID, latent_norm


def describe(
    location: str, *, unconditional: str | None = None, revision: str | None = None, as_given: bool = False
) -> dict[str, object]:
    """What `pocket`, a folder, a Hub repository, a weight file or a PNG is.

    `kind` says "source", "artifact", "gguf", "safetensors" or "picture". Values are JSON. `unconditional`, `revision` and `as_given` are
    those of `open_weights`. Of a build on the Hub only small files are downloaded.

    Raises:
        SourceError, ArtifactError, RequestError: nothing is there, or it is not what it claims to be.
    """
    path = Path(location)
    if unconditional is not None and path.suffix.lower() == ".gguf":
        return _describe_gguf_pair(path, unconditional, as_given)
    if location == "pocket" or unconditional is not None or (revision is not None and path.exists()):
        return _describe_source(location, unconditional, revision, as_given)  # whatever lies here under that name
    if path.suffix.lower() == ".gguf":
        return _describe_gguf(path)
    if path.suffix.lower() == ".safetensors":
        return _describe_safetensors(path)
    if path.is_file():
        return _describe_picture(path)
    if (path / "manifest.json").is_file():
        return _describe_artifact(path)
    return (None if path.exists() else _describe_published(location, revision)) or _describe_source(location, None, revision)


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


def _describe_source(
    location: str, unconditional: str | None, revision: str | None, as_given: bool = False
) -> dict[str, object]:
    from ideogram_q8.sources import open_source

    source = open_source(location, unconditional=unconditional, revision=revision, builds=True, as_given=as_given)
    shapes = tensor_shapes(source.config)
    return {
        "kind": "source",
        **_describe_traits(source.traits),
        "location": source.location,
        "revision": source.revision,
        "folder": str(source.folder),
        "variant": source.variant,
        "layout": source.branch("conditional").layout,
        "transformer": source.config.to_json(),
        "latents": f"denormalised by {SAID[latent_norm(source.traits, source.config)]}",
        "branches": ", ".join(source.branches),
        "tensors_per_branch": len(shapes),
        "linears_per_branch": len(linears(source.config)),
        "parameters_per_branch": sum(map(math.prod, shapes.values())),
    }


def _describe_artifact(folder: Path) -> dict[str, object]:
    from ideogram_q8.builds import open_artifact

    return _describe_manifest(open_artifact(folder).manifest, {"folder": str(folder)})


def _describe_published(location: str, revision: str | None) -> dict[str, object] | None:
    """A build on the Hub; None of anything else."""
    from ideogram_q8.builds.opening import find_build

    build = find_build(location, revision)
    if build is None:
        return None
    where = {"repository": build.place.repository, "revision": build.place.revision, "bytes_to_download": build.missing_bytes}
    return _describe_manifest(build.manifest, where)


def _describe_manifest(manifest: Manifest, where: Mapping[str, object]) -> dict[str, object]:
    return {
        "kind": "artifact",
        **_describe_traits(manifest.traits),
        **where,
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

    from ideogram_q8.builds.gguf_build import UNKNOWN
    from ideogram_q8.formats.gguf_reader import GgufFile

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


def _describe_gguf_pair(conditional: Path, unconditional: str, as_given: bool) -> dict[str, object]:
    """Two files that belong together, or one alone, or they are refused."""
    from ideogram_q8.builds.gguf_build import open_transformers

    build = open_transformers(conditional, unconditional, as_given=as_given)
    return {
        "kind": "gguf",
        "variant": build.variant,
        "transformer": build.transformer_config.to_json(),
        **{branch: _describe_gguf(build.branch(branch).files[0]) for branch in build.branches},
    }


def _describe_safetensors(path: Path) -> dict[str, object]:
    """One file, whoever made it; what nothing in it tells is "unknown"."""
    from collections import Counter

    from ideogram_q8.formats.stored import read_header
    from ideogram_q8.sources import markers
    from ideogram_q8.sources.pairs import BRANCH_KEY, MODEL_TYPES

    header = read_header(path)
    said = header.metadata
    return {
        "kind": "safetensors",
        "files": {path.name: {"bytes": path.stat().st_size}},
        "network": _network(header.tensors),
        "branch": said.get(BRANCH_KEY) or MODEL_TYPES.get(said.get("model_type", ""), "unknown"),
        "made_by": f"ideogram-q8 {said['ideogram_q8.tool_version']}" if "ideogram_q8.tool_version" in said else "unknown",
        "source_sha256": said.get("ideogram_q8.source_sha256", "unknown"),
        "recipe_sha256": said.get("ideogram_q8.recipe_sha256", "unknown"),
        "quantized": dict(Counter(marker.format for marker in markers.all_of(header, str(path)))),
        "tensors": dict(Counter(tensor.dtype for tensor in header.tensors.values())),
        "values": sum(tensor.count for tensor in header.tensors.values()),
    }


def _network(names: Collection[str]) -> str:
    """What a file's tensors are of, by names that no other network has."""
    from ideogram_q8.sources.prefixes import MARKS

    found = {network for name in names for mark, network in _NETWORKS.items() if name.endswith(mark)}
    return " and ".join(sorted(found | {"transformer"} if any(name.endswith(MARKS) for name in names) else found)) or "unknown"


_NETWORKS: Mapping[str, str] = {
    "layers.0.self_attn.q_proj.weight": "text encoder",
    "decoder.conv_in.weight": "VAE",
}


def _describe_picture(path: Path) -> dict[str, object]:
    from ideogram_q8.formats.png import read_metadata

    return {"kind": "picture", **read_metadata(path)}


def _describe_traits(traits: Traits) -> dict[str, object]:
    width, height = traits.default_size
    return {
        "name": traits.name,
        "sides": f"{traits.min_side} to {traits.max_side} pixels",
        "default_size": f"{width}x{height}",
    }
