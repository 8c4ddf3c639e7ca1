"""The card of a repository: manifest, report and a template to Markdown. Pure: the same input gives the same bytes.

A figure comes from the report or is "not measured"; sizes, hashes and what stayed in high precision come from the manifest.
The rejected alternative is a template with numbers in it, which is how published cards came to carry stale ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]  # exported, but not by __all__

from ideogram_q8.formats.manifest import FileRecord, Manifest
from ideogram_q8.formats.metrics import METRICS
from ideogram_q8.formats.quantities import byte_text
from ideogram_q8.formats.report import Measured, Report, VariantReport
from ideogram_q8.model.schemes import INT8, title
from ideogram_q8.publishing.cards.album import Samples
from ideogram_q8.publishing.cards.card_figures import (
    metric_rows,
    picks,
    seeds_text,
    size_ratio,
    unmeasured,
    variant_heads,
    variant_rows,
    verdict,
)
from ideogram_q8.publishing.cards.card_method import commands, layer_rows, policy_text, recipe_commands, recipe_of
from ideogram_q8.publishing.cards.card_tools import is_folder, tool_rows
from ideogram_q8.publishing.cards.card_weights import bits_per_weight
from ideogram_q8.publishing.cards.escaping import Markdown, address, attribute, code, finish, flat, word
from ideogram_q8.publishing.cards.licence import APACHE, Licence, modification_notice, source_name

COSTS = ("s", "bytes", "J")
TEMPLATE = Path(__file__).with_name("template.md.j2")


class Figures(NamedTuple):
    """What was measured: the report, the report's variant that is this very build, the pictures that show them. Each may be absent."""

    report: Report | None = None
    measured: VariantReport | None = None
    album: Samples | None = None


class Links(NamedTuple):
    """Other places that a card names: `siblings` have other formats of the model, `newer` replaces this one, `code` is the tool's home."""

    siblings: Sequence[str] = ()
    newer: str | None = None
    code: str | None = None


NO_LINKS = Links()


class FileRow(NamedTuple):
    """A line of the table of files."""

    path: str
    branch: str
    bits_per_weight: str
    size: str
    sha256: str


def render(manifest: Manifest, figures: Figures, licence: Licence, repo: str, links: Links = NO_LINKS, prefix: str = "") -> str:
    """The text of README.md for a build.

    Args:
        links: repositories with other formats of the same model, or in its place, and where the tool is.
        prefix: the build's folder in a repository of several, as in "q4_k_s/".

    Raises:
        PublishError: the form of the build's recipe is not known here.
    """
    folder, is_pocket = repo.split("/")[1], licence == APACHE
    place = f"{folder}/{prefix[:-1]}" if prefix else folder
    return fill(
        TEMPLATE,
        front_matter=yaml_text(front_matter(manifest, figures, licence, repo, links.newer)),
        prefix=prefix,
        root="../" if prefix else "",
        manifest=manifest,
        is_folder=is_folder(manifest),
        is_pair="unconditional" in {file.branch for file in manifest.files},
        licence=licence,
        is_pocket=is_pocket,
        modification=modification_notice(manifest.variant, manifest.tool_version),
        repo=repo,
        folder=folder,
        place=place,
        links=links,
        source=source_name(manifest),
        files=[file_row(manifest, file) for file in manifest.files],
        **_measured(manifest, figures, links.siblings),
        **_method(manifest, is_pocket, place),
    )


def _measured(manifest: Manifest, figures: Figures, siblings: Sequence[str]) -> dict[str, object]:
    """What the template shows of the report."""
    report, measured, album = figures
    rows = variant_rows(report, manifest, siblings) if report else []
    return {
        "report": report,
        "album": album if report else None,
        "verdict": verdict(manifest, report, measured),
        "ratio": (size_ratio(manifest, report) if report and measured else None) or 0,
        "picks": picks(report) if report else [],
        "variants": rows,
        "heads": variant_heads(report) if report else ([], []),
        "siblings": [sibling for sibling in siblings if sibling not in {row.link for row in rows}],
        "metrics": metric_rows(report, measured) if report and measured else [],
        "unmeasured": unmeasured(report, measured) if report and measured else [],
        "seeds": seeds_text(report.settings.seeds) if report else "",
        "has_samples": measured is not None and bool(measured.samples),
    }


def _method(manifest: Manifest, is_pocket: bool, place: str) -> dict[str, object]:
    """What the template shows of the recipe."""
    recipe = recipe_of(manifest)
    source = "pocket" if is_pocket else f"PATH/TO/{source_name(manifest).split('/')[-1]}"
    return {
        "recipe": recipe,
        "tools": tool_rows(manifest, recipe),
        "kept": layer_rows(recipe, kept=True),
        "quantized": layer_rows(recipe, kept=False),
        "policy": policy_text(recipe),
        "commands": list(commands(manifest, recipe, source, place)),
        "recipe_commands": list(recipe_commands(manifest, recipe, source)),
    }


def fill(template: Path, **values: object) -> str:
    """A template's text with its values in it, escaped but for `Markdown`; a value that is missing is an error."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # of HTML only; `finish` escapes what Markdown obeys
        finalize=finish,
    )
    environment.filters |= {"bytes": byte_text, "title_of": title, "markdown": Markdown}
    environment.filters |= {"attribute": attribute, "address": address, "code": code, "word": word}
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)


def yaml_text(values: Mapping[str, object]) -> Markdown:
    """Metadata as they stand between the two lines of ---; YAML's quotes keep a text, made one printable line, inside its value."""
    return Markdown(yaml_dump(_flat(dict(values)), sort_keys=False, width=128).strip())


def _flat(value: object) -> object:
    if isinstance(value, dict):
        return {key: _flat(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_flat(item) for item in value]
    return flat(value) if isinstance(value, str) else value


def front_matter(
    manifest: Manifest, figures: Figures, licence: Licence, repo: str, newer: str | None = None
) -> dict[str, object]:
    """The card's metadata under the Hub's keys. `library_name` names what reads the files, so that no wrong snippet is shown."""
    values: dict[str, object] = dict(licence.front_matter)
    if licence != APACHE:
        values |= {"base_model": source_name(manifest), "base_model_relation": "quantized"}
    values |= {
        "pipeline_tag": "text-to-image",
        "library_name": "gguf" if manifest.scheme != INT8 else "diffusers" if is_folder(manifest) else "ideogram-q8",
        "language": ["en"],
        "tags": ["text-to-image", "quantized", *scheme_tags(manifest), "ideogram", "ideogram-q8"],
        "quantized_by": repo.split("/")[0],
        "inference": False,
    }
    if newer:
        values["new_version"] = newer
    report, measured, _ = figures
    if measured and measured.samples:
        values["widget"] = [{"text": sample.caption, "output": {"url": sample.path}} for sample in measured.samples]
    if report and measured:
        values |= model_index(report, measured, repo)
    return values


def scheme_tags(manifest: Manifest) -> tuple[str, ...]:
    """What a build is searched by."""
    if manifest.scheme != INT8:
        return ("gguf", manifest.scheme)
    recipe = recipe_of(manifest)
    smoothed, rotated = ("smoothquant",) if recipe.smoothed else (), ("convrot",) if recipe.is_rotated else ()
    return ("int8", "w8a8", *smoothed, *rotated, "ampere")


def model_index(report: Report, measured: VariantReport, repo: str) -> dict[str, object]:
    """The Hub's `model-index` of the figures of quality that were measured; empty if none was.

    Times and memory stay out: a search across models would compare them across machines.
    """
    metrics = [
        {"type": name, "name": f"{METRICS[name].title} ({METRICS[name].unit})", "value": figure.value}
        for name, figure in sorted(measured.figures.items())
        if isinstance(figure, Measured) and METRICS[name].unit not in COSTS
    ]
    if not metrics:
        return {}
    dataset = {"name": report.suite.name, "type": report.suite.name}
    results = [{"task": {"type": "text-to-image", "name": "Text to image"}, "dataset": dataset, "metrics": metrics}]
    return {"model-index": [{"name": repo.split("/")[1], "results": results}]}


def file_row(manifest: Manifest, file: FileRecord) -> FileRow:
    """A weight file's line."""
    return FileRow(file.path, file.branch, bits_per_weight(manifest, [file]), byte_text(file.size), file.sha256[:12])
