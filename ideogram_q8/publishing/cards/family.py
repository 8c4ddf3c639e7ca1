"""The cards of a release: one for a single build; for several in one repository one each, and one for all that says which to take."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ideogram_q8.formats.metrics import in_table
from ideogram_q8.formats.quantities import byte_text
from ideogram_q8.formats.report import Figure, Measured, NotMeasured
from ideogram_q8.model.schemes import title
from ideogram_q8.publishing.cards.card import NO_LINKS, Figures, Links, fill, front_matter, render, scheme_tags, yaml_text
from ideogram_q8.publishing.cards.card_text import figure_text
from ideogram_q8.publishing.cards.card_weights import bits_per_weight
from ideogram_q8.publishing.cards.licence import APACHE, modification_notice, source_name
from ideogram_q8.publishing.release import CARD, Release, ReleasedBuild

TEMPLATE = Path(__file__).with_name("family.md.j2")


class BuildRow(NamedTuple):
    """A line of the table of builds."""

    folder: str
    title: str
    size: str
    bits_per_weight: str
    measured: tuple[str, ...]


def cards(release: Release, repo: str, links: Links = NO_LINKS) -> dict[str, str]:
    """The release's cards by their paths; `links` are what they name beside it.

    Raises PublishError: a build's recipe is of an unknown form.
    """
    found = {
        build.prefix + CARD: render(build.manifest, build.figures, release.licence, repo, links, build.prefix)
        for build in release.builds
    }
    return found if CARD in found else {CARD: _family(release, repo, links), **found}


def _family(release: Release, repo: str, links: Links) -> str:
    """The card of a repository with several builds."""
    first = release.builds[0].manifest
    variants = [build.manifest.variant for build in release.builds]
    metadata = front_matter(first, Figures(), release.licence, repo, links.newer)
    tags = [
        "text-to-image",
        "quantized",
        *dict.fromkeys(tag for build in release.builds for tag in scheme_tags(build.manifest)),
    ]
    return fill(
        TEMPLATE,
        front_matter=yaml_text({**metadata, "tags": [*tags, "ideogram", "ideogram-q8"]}),
        scheme_names=", ".join(title(variant) for variant in variants),
        heads=[column.head for _, column in in_table("family")],
        rows=[_row(build) for build in release.builds],
        traits=first.traits,
        is_pocket=release.licence == APACHE,
        modification=modification_notice(" and ".join(variants), first.tool_version),
        source=source_name(first),
        licence=release.licence,
        repo=repo,
        folder=repo.split("/")[1],
        links=links,
    )


def _row(build: ReleasedBuild) -> BuildRow:
    manifest, figures = build.manifest, build.measured.figures if build.measured else {}
    size = byte_text(sum(file.size for file in manifest.files))

    def figure(name: str) -> str:
        found: Figure = figures.get(name, NotMeasured("not in the report"))
        return figure_text(found) if isinstance(found, Measured) else "not measured"

    bits = bits_per_weight(manifest, manifest.files)
    cells = tuple(figure(metric.name) for metric, _ in in_table("family"))
    return BuildRow(build.prefix.rstrip("/"), title(manifest.variant), size, bits, cells)
