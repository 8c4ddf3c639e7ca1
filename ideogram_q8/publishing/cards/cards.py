"""Cards of every build of a finished evaluation, with their pictures and charts.

    python -m ideogram_q8.studies.pocket_report --out RUN                    builds, measures
    python -m ideogram_q8.publishing.cards.cards RUN --out model_cards       cards, pictures and charts of all of it
    python -m ideogram_q8.publishing.cards.cards --again --out model_cards   the cards alone, after a change of the template

RUN has `builds/NAME/manifest.json` and `report/`, which `evaluate` wrote. Into --out go, for a model called pocket,

    pocket-report.json             the report, with the samples that are shown
    manifests/pocket-NAME.json     what each card says of its files
    images/  samples/              the comparison, the charts, pictures of each build; images/index.json has their hashes
    pocket-NAME.md                 the cards

and into each folder of RUN/builds the report and the pictures, which is what `push.py` publishes beside its files. What another run left in
--out is replaced. The cards there are the README.md of each repository but for links to files that only a repository has.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ideogram_q8.errors import IdeogramQ8Error, PublishError
from ideogram_q8.formats.manifest import FILE_NAME as MANIFEST
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.report import FILE_NAME as REPORT
from ideogram_q8.formats.report import Report
from ideogram_q8.machine import console
from ideogram_q8.machine.terminal import say
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples, index
from ideogram_q8.publishing.cards.card import Figures, Links, render
from ideogram_q8.publishing.cards.licence import licence_of
from ideogram_q8.publishing.folder import has, regular_file
from ideogram_q8.publishing.release import measured_variant

OWNER = "ideogram-q8"
MODEL = "pocket"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 after a refusal."""
    parser = argparse.ArgumentParser(
        prog="ideogram_q8.publishing.cards.cards", description="Make the cards of a finished evaluation."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "run", type=Path, nargs="?", metavar="RUN", help="has builds/ and report/, as `pocket_report --out` leaves them"
    )
    what.add_argument("--again", action="store_true", help="render the cards from what lies in --out")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="for cards, report, manifests and pictures")
    parser.add_argument("--owner", default=OWNER, help=f"whose repositories the cards are of (default {OWNER})")
    options = parser.parse_args(argv)
    try:
        if not options.again:
            take(options.run, options.out)
        cards = rendered(options.out, options.owner)
    except (IdeogramQ8Error, OSError) as error:
        say(f"error: {error}", to="err")
        return 2
    for name, text in cards.items():
        (options.out / name).write_text(text, encoding="utf-8", newline="\n")
    say(f"{options.out}: {', '.join(cards)}")
    return 0


def take(run: Path, out: Path) -> None:
    """Puts what cards are made from into `out`, and what is published beside the files into each build's folder.

    Raises:
        PublishError, ArtifactError, RequestError: the run is not a whole one.
    """
    manifests = read_builds(run / "builds")
    report, album, files = show(run / "report")
    _prepare_builds(run / "builds", manifests, report, album, files)
    _write(out, manifests, report, album, files)


def read_builds(folder: Path) -> dict[str, Manifest]:
    """Manifests by the names of the builds' folders. Raises PublishError: there are none; ArtifactError: one is not valid."""
    found = {
        file.parent.name: Manifest.from_json(_text(folder, f"{file.parent.name}/{MANIFEST}"))
        for file in sorted(folder.glob(f"*/{MANIFEST}"))
    }
    if not found:
        raise PublishError(f"{folder} has no build with a {MANIFEST}; name the folder that `pocket_report --out` wrote into")
    return found


def show(folder: Path) -> tuple[Report, Samples, Mapping[str, bytes]]:
    """The report with its samples, the album, and the files of both by their paths, from what `evaluate` left in a folder.

    Raises:
        RequestError, ArtifactError: it is not a whole run, or not valid.
        PublishError: the report is of another run.
    """
    from ideogram_q8.measure.compare import gather
    from ideogram_q8.measure.pages.showcase import ABOUT, showcase

    whole = gather([folder])
    report = Report.from_json(_text(folder, REPORT))
    if {v.name: v.artifact_sha256 for v in report.variants} != dict(whole.run.places) or report.suite != whole.run.suite:
        raise PublishError(f"{folder / REPORT} is of another run than {folder / 'measured'}; merge again")
    shown = showcase(whole, report)
    report = dataclasses.replace(
        report, variants=tuple(dataclasses.replace(v, samples=shown.samples[v.name]) for v in report.variants)
    )
    images = {path: data for path, data in shown.files.items() if path in shown.titles}
    return report, index(report, ABOUT, images, shown.titles), shown.files


def rendered(folder: Path, owner: str = OWNER) -> dict[str, str]:
    """The cards of all builds in `folder` by their file names, from the report, manifests and album that lie there.

    Raises PublishError, ArtifactError: they do not belong together, or are not valid.
    """
    report = Report.from_json(_text(folder, f"{MODEL}-{REPORT}"))
    manifests = manifests_in(folder)
    album = Samples.from_json(_text(folder, ALBUM)) if has(folder, ALBUM) else None
    if album:
        album.check(report)
    repos = {variant: f"{owner}/{MODEL}-{variant}" for variant in manifests}
    cards = {}
    for manifest in manifests.values():
        figures = Figures(report, measured_variant(manifest, report), album)
        siblings = [repo for variant, repo in repos.items() if variant != manifest.variant]
        card = render(manifest, figures, licence_of(manifest), repos[manifest.variant], Links(siblings))
        cards[f"{MODEL}-{manifest.variant}.md"] = _local(card)
    return cards


def manifests_in(folder: Path) -> dict[str, Manifest]:
    """Manifests of the builds that have a card in `folder`, by variant. Raises ArtifactError: one is not valid."""
    names = sorted(file.name for file in (folder / "manifests").glob(f"{MODEL}-*.json"))
    found = [Manifest.from_json(_text(folder / "manifests", name)) for name in names]
    return {manifest.variant: manifest for manifest in found}


def _text(folder: Path, path: str) -> str:
    """The text of a file of a run or of --out. Raises PublishError: it is missing, special, or behind a link that leaves the folder."""
    return regular_file(folder, path, "make the run or the cards again").read_text(encoding="utf-8")


def _local(card: str) -> str:
    """A card whose links lead to what lies in --out instead of in its repository."""
    return card.replace("](report.json)", f"]({MODEL}-{REPORT})").replace("](LICENSE)", "](../LICENSE)")


def _prepare_builds(
    folder: Path, manifests: Mapping[str, Manifest], report: Report, album: Samples, files: Mapping[str, bytes]
) -> None:
    for name, manifest in manifests.items():
        found = measured_variant(manifest, report)
        wanted = {image.path for image in album.images} | {sample.path for sample in (found.samples if found else ())}
        _write_files(folder / name, {path: files[path] for path in wanted})
        _write_files(folder / name, {REPORT: report.to_json().encode(), ALBUM: album.to_json().encode()})


def _write(out: Path, manifests: Mapping[str, Manifest], report: Report, album: Samples, files: Mapping[str, bytes]) -> None:
    for old in (*out.glob(f"{MODEL}-*.md"), *out.glob(f"manifests/{MODEL}-*.json")):
        old.unlink()
    shutil.rmtree(out / "samples", ignore_errors=True)
    if has(out, ALBUM):
        for image in Samples.from_json(_text(out, ALBUM)).images:
            (out / image.path).unlink(missing_ok=True)
    own = {f"manifests/{MODEL}-{m.variant}.json": _small(m).encode() for m in manifests.values()}
    _write_files(out, {**files, **own, f"{MODEL}-{REPORT}": report.to_json().encode(), ALBUM: album.to_json().encode()})


def _small(manifest: Manifest) -> str:
    """The manifest in one line, a third of the size."""
    return json.dumps(json.loads(manifest.to_json()), separators=(",", ":"), ensure_ascii=False) + "\n"


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


if __name__ == "__main__":
    sys.exit(console.run(main))
