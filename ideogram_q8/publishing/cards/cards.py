"""Cards of builds and of a finished evaluation, with their pictures and charts; the verb `card` of the command line calls these.

`take` puts what `evaluate` left into the folder of each build, from where `push` publishes it beside the files: report.json, the samples
of the build, the comparison, the charts and images/index.json, which has their hashes. A card is then made from what lies there, by the
code that `push` calls, so that both are the same text:

    repository            of one build, or of several in one repository: README.md and what it shows, as the repository has them
    write_collection      of several repositories, OWNER/MODEL-VARIANT each, in one folder:
      MODEL-VARIANT.md          the cards, which `rendered` makes again from the rest of the folder, after a change of the template
      MODEL-report.json         the report, with the samples that are shown
      manifests/MODEL-NAME.json what each card says of its files
      images/  samples/         shared by the cards

What another run left in the folder of a collection is replaced. The cards there are the README.md of each repository but for links to
files that only a repository has.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import FILE_NAME as MANIFEST
from ideogram_q8.formats.manifest import Manifest
from ideogram_q8.formats.report import FILE_NAME as REPORT
from ideogram_q8.formats.report import Report
from ideogram_q8.publishing.cards.album import FILE_NAME as ALBUM
from ideogram_q8.publishing.cards.album import Samples, index
from ideogram_q8.publishing.cards.card import Figures, Links, render
from ideogram_q8.publishing.cards.family import cards
from ideogram_q8.publishing.cards.licence import licence_of
from ideogram_q8.publishing.folder import has, regular_file, shown
from ideogram_q8.publishing.release import Release, ReleasedBuild, as_published, check_family, figures_beside, measured_variant


class FoundBuild(NamedTuple):
    """A build's folder, and its manifest as it will be published."""

    folder: Path
    manifest: Manifest


class Evaluation(NamedTuple):
    """What `evaluate` left: the report with the samples that are shown, the album, and the files of both by their paths."""

    report: Report
    album: Samples | None
    files: Mapping[str, bytes]


def read_builds(*places: Path) -> dict[str, FoundBuild]:
    """Builds by the names of their folders; a place is a build's folder, or a folder of several.

    Raises:
        PublishError: a place has no build, two folders are called alike, or a build's licence is not known.
        ArtifactError: a manifest is not valid.
    """
    found: dict[str, FoundBuild] = {}
    for place in places:
        folders = [place] if has(place, MANIFEST) else sorted(file.parent for file in place.glob(f"*/{MANIFEST}"))
        if not folders:
            raise PublishError(
                f"{shown(place)} has no build with a {MANIFEST}; name a folder that `quantize` wrote, or one of several"
            )
        for folder in folders:
            name = folder.resolve().name
            if name in found:
                raise PublishError(f"two builds lie in folders called {name}; rename one of them")
            found[name] = FoundBuild(folder, as_published(Manifest.from_json(_text(folder, MANIFEST))))
            licence_of(found[name].manifest)  # before anything is written
    return found


def read_evaluation(place: Path) -> Evaluation:
    """What `evaluate` left in a folder; `place` is the folder or its report.json. Without its measurements there are no pictures.

    Raises:
        RequestError, ArtifactError: it is not a whole run, or not valid.
        PublishError: the report is of another run, or missing.
    """
    folder = place if place.is_dir() else place.parent
    report = Report.from_json(_text(folder, REPORT if place.is_dir() else place.name))
    if not (folder / "measured").is_dir():
        bare = tuple(dataclasses.replace(variant, samples=()) for variant in report.variants)
        return Evaluation(dataclasses.replace(report, variants=bare), None, {})
    from ideogram_q8.measure.compare import gather
    from ideogram_q8.measure.pages.showcase import ABOUT, showcase

    whole = gather([folder])
    if {v.name: v.artifact_sha256 for v in report.variants} != dict(whole.run.places) or report.suite != whole.run.suite:
        raise PublishError(f"{folder / REPORT} is of another run than {folder / 'measured'}; merge again")
    chosen = showcase(whole, report)
    report = dataclasses.replace(
        report, variants=tuple(dataclasses.replace(v, samples=chosen.samples[v.name]) for v in report.variants)
    )
    images = {path: data for path, data in chosen.files.items() if path in chosen.titles}
    return Evaluation(report, index(report, ABOUT, images, chosen.titles), chosen.files)


def take(builds: Mapping[str, FoundBuild], measured: Evaluation) -> None:
    """Puts what is published beside the files into each build's folder, in the place of an older report's.

    Raises PublishError: the report has figures of the same variant from other files; nothing is written then.
    """
    report, album, files = measured
    own = {name: measured_variant(build.manifest, report) for name, build in builds.items()}
    for name, build in builds.items():
        (build.folder / ALBUM).unlink(missing_ok=True)
        found = own[name]
        wanted = {image.path for image in album.images} if album else set()
        wanted |= {sample.path for sample in found.samples} if found else set()
        write_files(build.folder, {path: files[path] for path in wanted})
        write_files(build.folder, {REPORT: report.to_json().encode()} | _album_file(album))


def measured_beside(builds: Mapping[str, FoundBuild]) -> Evaluation | None:
    """The report that lies beside the builds, with the pictures of them that lie there too; None where no build has one.

    Raises:
        PublishError: the builds have different reports; see also `figures_beside`.
    """
    found: Evaluation | None = None
    for build in builds.values():
        folder, figures = figures_beside(build.manifest, build.folder)
        if figures.report is None:
            continue
        if found and found.report != figures.report:
            raise PublishError(f"{shown(folder / REPORT)} is another report than that of another build; name one with --report")
        pictures = {path: regular_file(folder, path, "make the cards again").read_bytes() for path in _pictures(figures)}
        found = Evaluation(figures.report, figures.album, {**(found.files if found else {}), **pictures})
    return found


def repository(builds: Mapping[str, FoundBuild], repo: str, family: bool) -> dict[str, bytes]:
    """What a repository shows, by paths: the card of a build or, of a family, one for all and one in the folder of each; what they show.

    Raises:
        PublishError, ArtifactError: see `figures_beside` and `licence_of`; the builds of a family do not lie in one folder by themselves.
    """
    root = _family_folder(builds) if family else None
    released: list[ReleasedBuild] = []
    files: dict[str, bytes] = {}
    for name, build in builds.items():
        prefix = f"{name}/" if family else ""
        folder, figures = figures_beside(build.manifest, build.folder, *([root] if root else []))
        released.append(ReleasedBuild(prefix, build.manifest, None, figures.report, figures.album, ()))
        files |= {prefix + path: regular_file(folder, path, "make the cards again").read_bytes() for path in _pictures(figures)}
        files |= {prefix + REPORT: figures.report.to_json().encode()} if figures.report else {}
    check_family(released)
    first = released[0].manifest
    release = Release(root or next(iter(builds.values())).folder, tuple(released), licence_of(first), (), ())
    return files | {path: text.encode() for path, text in cards(release, repo).items()}


def _pictures(figures: Figures) -> Iterator[str]:
    yield from (sample.path for sample in (figures.measured.samples if figures.measured else ()))
    yield from (image.path for image in (figures.album.images if figures.album else ()))


def _family_folder(builds: Mapping[str, FoundBuild]) -> Path:
    """The folder of all builds, which `push` takes. Raises PublishError: there is none, or it has other builds too."""
    folders = sorted({build.folder.resolve().parent for build in builds.values()})
    if len(folders) > 1:
        raise PublishError(
            f"the builds lie in {' and '.join(map(shown, folders))}; put all of a family into one folder, which `push` publishes"
        )
    others = sorted({file.parent.name for file in folders[0].glob(f"*/{MANIFEST}")} - set(builds))
    if others:
        raise PublishError(
            f"{shown(folders[0])} also has {', '.join(others)}, which `push` would publish; name them too, or move them"
        )
    return folders[0]


def write_collection(out: Path, repo: str, builds: Mapping[str, FoundBuild], measured: Evaluation | None) -> None:
    """Puts into `out` what the cards of several repositories are made from; what another run left there is removed.

    Raises PublishError: two builds are of one variant, after which their repositories are named.
    """
    model = repo.split("/")[1]
    if len({build.manifest.variant for build in builds.values()}) < len(builds):
        raise PublishError(f"of {', '.join(builds)} two are of one variant, after which repositories are named; leave one out")
    for old in (*out.glob(f"{model}-*.md"), *out.glob(f"manifests/{model}-*.json"), out / f"{model}-{REPORT}"):
        old.unlink(missing_ok=True)
    shutil.rmtree(out / "samples", ignore_errors=True)
    if has(out, ALBUM):
        for image in Samples.from_json(_text(out, ALBUM)).images:
            (out / image.path).unlink(missing_ok=True)
        (out / ALBUM).unlink()
    own = {f"manifests/{model}-{b.manifest.variant}.json": _small(b.manifest).encode() for b in builds.values()}
    report = {f"{model}-{REPORT}": measured.report.to_json().encode()} | _album_file(measured.album) if measured else {}
    write_files(out, {**(measured.files if measured else {}), **own, **report})


def rendered(folder: Path, repo: str) -> dict[str, str]:
    """The cards of a collection by their file names, from the report, manifests and album that lie in `folder`.

    Args:
        repo: OWNER/MODEL; a build's repository is OWNER/MODEL-VARIANT.

    Raises PublishError, ArtifactError: they do not belong together, or are not valid.
    """
    owner, model = repo.split("/")
    name = f"{model}-{REPORT}"
    report = Report.from_json(_text(folder, name)) if has(folder, name) else None
    manifests = manifests_in(folder, model)
    if not manifests:
        raise PublishError(f"{shown(folder)} has no manifests/{model}-VARIANT.json; make the cards from their builds first")
    album = Samples.from_json(_text(folder, ALBUM)) if report and has(folder, ALBUM) else None
    if report and album:
        album.check(report)
    repos = {variant: f"{owner}/{model}-{variant}" for variant in manifests}
    texts = {}
    for manifest in manifests.values():
        figures = Figures(report, measured_variant(manifest, report), album)
        siblings = [other for variant, other in repos.items() if variant != manifest.variant]
        card = render(manifest, figures, licence_of(manifest), repos[manifest.variant], Links(siblings))
        texts[f"{model}-{manifest.variant}.md"] = _local(card, model)
    return texts


def manifests_in(folder: Path, model: str) -> dict[str, Manifest]:
    """Manifests of the builds that have a card in `folder`, by variant. Raises ArtifactError: one is not valid."""
    names = sorted(file.name for file in (folder / "manifests").glob(f"{model}-*.json"))
    found = [Manifest.from_json(_text(folder / "manifests", name)) for name in names]
    return {manifest.variant: manifest for manifest in found}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files by their paths in `folder`, which is made where it is missing."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def push_lines(builds: Mapping[str, FoundBuild], repo: str, family: bool) -> Sequence[str]:
    """The commands that publish what the cards are of."""
    if family:
        return [f"push {_family_folder(builds)} --repo {repo}"]
    if len(builds) == 1:
        return [f"push {build.folder} --repo {repo}" for build in builds.values()]
    repos = {build.folder: f"{repo}-{build.manifest.variant}" for build in builds.values()}
    siblings = {
        folder: "".join(f" --sibling {other}" for other in repos.values() if other != own) for folder, own in repos.items()
    }
    return [f"push {folder} --repo {own}{siblings[folder]}" for folder, own in repos.items()]


def _text(folder: Path, path: str) -> str:
    """The text of a file of a run or of a collection. Raises PublishError: it is missing, special, or a link leads out of the folder."""
    return regular_file(folder, path, "make the run or the cards again").read_text(encoding="utf-8")


def _local(card: str, model: str) -> str:
    """A card whose links lead to what lies in the collection instead of in its repository."""
    return card.replace("](report.json)", f"]({model}-{REPORT})").replace("](LICENSE)", "](../LICENSE)")


def _album_file(album: Samples | None) -> dict[str, bytes]:
    return {ALBUM: album.to_json().encode()} if album else {}


def _small(manifest: Manifest) -> str:
    """The manifest in one line, a third of the size."""
    return json.dumps(json.loads(manifest.to_json()), separators=(",", ":"), ensure_ascii=False) + "\n"
