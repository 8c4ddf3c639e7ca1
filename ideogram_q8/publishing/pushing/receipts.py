"""The receipt of a push: what was put where, as JSON beside the published folder and never inside it.

`DIR.NAME--REPO.receipt.json`, with the branch in its name where it is not main. It is what `rollback` goes by, and what proves later
that the repository holds what was published. It knows no token.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ideogram_q8.errors import PublishError
from ideogram_q8.formats import whole_file
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.strict_json import check_version, decode, parse_json
from ideogram_q8.publishing.pushing.hub import Hub
from ideogram_q8.publishing.pushing.sending import HeldFile, Outcome

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Receipt:
    """What a push made.

    Attributes:
        url, repo, kind, revision: the repository and its branch.
        commit: what was verified; `parent` is what the branch was at before, None where the repository was made.
        artifacts: sha256 of each build by its folder in the repository ("" is the root).
        verified: UTC, 2026-08-31T23:59:59Z.
    """

    format_version: int
    tool_version: str
    url: str
    repo: str
    kind: str
    revision: str
    commit: str
    parent: str | None
    tag: str | None
    collection: str | None
    artifacts: Mapping[str, str]
    files: tuple[HeldFile, ...]
    verified: str

    def to_json(self) -> str:
        """The receipt's text; `from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Receipt:
        """Raises PublishError naming the key that is unknown, missing or of a wrong type."""
        value = parse_json(text, where, PublishError)
        check_version(value, FORMAT_VERSION, where, PublishError, "use the release that wrote it")
        return decode(cls, value, where, PublishError)


def describe(hub: Hub, outcome: Outcome, tag: str | None, artifacts: Mapping[str, str]) -> Receipt:
    """The receipt of an outcome, as of now."""
    return Receipt(
        format_version=FORMAT_VERSION,
        tool_version=TOOL_VERSION,
        url=hub.url,
        repo=hub.repo,
        kind=hub.kind,
        revision=hub.revision,
        commit=outcome.commit,
        parent=outcome.parent,
        tag=tag,
        collection=outcome.collection_url,
        artifacts=artifacts,
        files=outcome.files,
        verified=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def record(folder: Path, hub: Hub, outcome: Outcome, tag: str | None, artifacts: Mapping[str, str]) -> tuple[Receipt, Path]:
    """Writes the receipt of an outcome beside `folder`; the receipt and where it is.

    A push that found everything there already keeps the parent of the receipt that it replaces, so that `rollback` still knows it.
    """
    path = receipt_path(folder, hub)
    old = read_receipt(path)
    receipt = describe(hub, outcome, tag, artifacts)
    if old and old.commit == receipt.commit and not outcome.changed:
        receipt = dataclasses.replace(receipt, parent=old.parent)
    whole_file.write_text(path, receipt.to_json())
    return receipt, path


def receipt_path(folder: Path, hub: Hub) -> Path:
    """Where the receipt of a push of `folder` is."""
    branch = "" if hub.revision == "main" else f".{hub.revision.replace('/', '--')}"
    place = folder.resolve()
    return place.with_name(f"{place.name}.{hub.repo.replace('/', '--')}{branch}.receipt.json")


def read_receipt(path: Path) -> Receipt | None:
    """None if there is none. Raises PublishError: it is not a receipt."""
    return Receipt.from_json(path.read_text(encoding="utf-8"), str(path)) if path.is_file() else None


def before_last_push(folder: Path, hub: Hub) -> str:
    """The commit that the branch was at before the last push of `folder`. Raises PublishError: not known."""
    path = receipt_path(folder, hub)
    receipt = read_receipt(path)
    if receipt is None:
        raise PublishError(f"there is no receipt {path} that says what was there before; name a commit or tag with --to")
    if receipt.parent is None:
        raise PublishError(
            f"{hub.repo} was made by the push in {path}, there is nothing before it; name a commit or tag with --to"
        )
    return receipt.parent
