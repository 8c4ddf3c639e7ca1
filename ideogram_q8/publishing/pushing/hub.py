"""One repository on the Hub, through huggingface_hub: what is read from it and the few ways to change it.

Every failure becomes a `HubError` with what to do. Reading, tagging and collecting are tried again after a moment, since doing them twice
is doing them once; a commit is not. Uploads are retried by the client itself.

HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_DISABLE_XET mean what they mean to huggingface_hub, which also finds the token that
`hf auth login` stored. The token stays in the client's hands.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    SpaceHardware,
    get_token,
    set_client_factory,
)
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported under this name for all its versions
from huggingface_hub.utils._http import default_client_factory

from ideogram_q8.errors import PublishError
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.hub import held
from ideogram_q8.hub.endpoint import public, warn_of_plain_http
from ideogram_q8.publishing.pushing.plan import CommittedFile, ReleaseFile, Remote
from ideogram_q8.publishing.pushing.refusals import FAILURES, HubError, explain

P = ParamSpec("P")
T = TypeVar("T")
Kind = Literal["model", "space"]
MAIN = "main"
TRIES = 3
"""How often a request is made that is harmless to repeat."""
TIMEOUT = 120.0
"""Seconds without a byte after which a connection counts as dead; the client's own default is to wait for ever."""


def _client() -> Any:
    client = default_client_factory()
    client.timeout = httpx.Timeout(TIMEOUT, connect=30.0)
    return client


def pause_before(attempt: int) -> float:
    """Seconds to wait before a request is tried again, after `attempt` failures."""
    return float(4 ** (attempt - 1))


@dataclass
class Hub:
    """The repository `repo` of the Hub at `endpoint` (default: HF_ENDPOINT), at the branch `revision`.

    Every method raises HubError.
    """

    repo: str
    kind: Kind = "model"
    revision: str = MAIN
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        set_client_factory(_client)
        self.token = self.token or get_token()
        self.api = HfApi(self.endpoint, token=self.token, library_name="ideogram-q8", library_version=TOOL_VERSION)
        warn_of_plain_http(str(self.api.endpoint), self.token is not None)

    @property
    def url(self) -> str:
        """Where people find the repository; without a user's name or password that HF_ENDPOINT may have."""
        return f"{public(str(self.api.endpoint))}/{'spaces/' if self.kind == 'space' else ''}{self.repo}"

    def _attempt(self, doing: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T | HubError:
        try:
            return function(*args, **options)
        except FAILURES as error:
            return explain(doing, error)

    def _once(self, doing: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        found = self._attempt(doing, function, *args, **options)
        if isinstance(found, HubError):
            raise found  # not where the failure was caught, so that no traceback shows the request
        return found

    def _patiently(self, doing: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        for attempt in range(1, TRIES):
            found = self._attempt(doing, function, *args, **options)
            if not isinstance(found, HubError):
                return found
            if not found.is_transient:
                raise found
            time.sleep(pause_before(attempt))
        return self._once(doing, function, *args, **options)

    def check_writer(self) -> str:
        """The account's name. Raises PublishError unless its token may write to the repository."""
        account = self._patiently("asking the Hub whose token this is", self.api.whoami)
        problem = _cannot_write(account, self.repo)
        if problem:
            raise PublishError(
                f"{problem}; make a token with write access to {self.repo} at https://huggingface.co/settings/tokens, or name "
                "another --repo"
            )
        return str(account["name"])

    def read(self, revision: str | None = None) -> Remote | None:
        """The repository at the branch, or at a commit or tag; None if there is no such repository."""
        doing = f"reading {self.repo}"
        try:
            found, on_branch = self._info(doing, revision or self.revision)
        except _Missing:
            return None
        entries = self._patiently(doing, self._files, found.sha)
        files = {e.path: CommittedFile(e.size, e.lfs.sha256 if e.lfs else None, e.blob_id) for e in entries}
        refs = self._patiently(doing, self.api.list_repo_refs, self.repo, repo_type=self.kind)
        tags = {tag.name: tag.target_commit for tag in refs.tags}
        gated = str(found.gated) if getattr(found, "gated", False) else None
        return Remote(found.sha, files, on_branch, bool(found.private), tags, gated)

    def _info(self, doing: str, revision: str) -> tuple[Any, bool]:
        """What the Hub says of the repository, and whether it has the revision. Raises _Missing."""

        def ask(revision: str) -> Any:
            try:
                return self.api.repo_info(self.repo, repo_type=self.kind, revision=revision)
            except RevisionNotFoundError:
                return None
            except RepositoryNotFoundError as error:
                if error.response.status_code != 404:
                    raise
                return _MISSING

        found = self._patiently(doing, ask, revision)
        if found is None and revision == self.revision != MAIN:
            return self._patiently(doing, ask, MAIN), False
        if found is _MISSING:
            raise _Missing
        if found is None:
            raise PublishError(f"{self.repo} has no revision {revision!r}; name a branch, tag or commit that it has")
        return found, True

    def _files(self, revision: str) -> list[RepoFile]:
        entries = self.api.list_repo_tree(self.repo, recursive=True, revision=revision, repo_type=self.kind)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        if not all(held.is_listed(file.path, file.size) for file in files):
            raise ValueError("its list of files has a name or a size of a wrong kind")
        return files

    def create(self, private: bool, hardware: str | None = None) -> None:
        """Makes the repository; fine if it is there already."""
        space: dict[str, Any] = {"space_sdk": "gradio", "space_hardware": hardware} if self.kind == "space" else {}
        doing = f"making the repository {self.repo}"
        self._patiently(doing, self.api.create_repo, self.repo, private=private, repo_type=self.kind, exist_ok=True, **space)

    def create_branch(self) -> None:
        """Makes the branch, from main."""
        doing = f"making the branch {self.revision} of {self.repo}"
        self._patiently(doing, self.api.create_branch, self.repo, branch=self.revision, repo_type=self.kind, exist_ok=True)

    def upload(self, file: ReleaseFile) -> CommitOperationAdd:
        """Stores a large file without committing it; sends nothing that is stored already."""
        addition = _addition(file)
        self._once(
            f"sending {file.path} to {self.repo}",
            self.api.preupload_lfs_files,
            self.repo,
            [addition],
            free_memory=False,
            repo_type=self.kind,
            revision=self.revision,
        )
        return addition

    def commit(
        self, additions: Sequence[ReleaseFile | CommitOperationAdd], removed: Sequence[str], parent: str, message: str
    ) -> str:
        """One commit on top of `parent` and of nothing else; its oid. Status 412: the branch is elsewhere by now."""
        adds = [_addition(a) if isinstance(a, ReleaseFile) else a for a in additions]
        return self._commit([*adds, *map(CommitOperationDelete, removed)], parent, message)

    def restore(self, copied: Sequence[str], source: str, removed: Sequence[str], parent: str, message: str) -> str:
        """One commit that takes `copied` paths from the commit `source` again, and deletes `removed`; its oid."""
        copies = [CommitOperationCopy(path, path, src_revision=source) for path in copied]
        return self._commit([*copies, *map(CommitOperationDelete, removed)], parent, message)

    def _commit(self, operations: Sequence[Any], parent: str, message: str) -> str:
        info = self._once(
            f"committing to {self.repo}",
            self.api.create_commit,
            self.repo,
            operations,
            commit_message=message,
            parent_commit=parent,
            revision=self.revision,
            repo_type=self.kind,
        )
        return str(info.oid)

    def content(self, path: str, commit: str, size: int) -> bytes:
        """The bytes of a small file at a commit, of which the list says that it has `size`. Raises SourceError: it has another size."""
        return self._patiently(f"reading {path} of {self.repo} back", self._download, path, commit, size)

    def _download(self, path: str, commit: str, size: int) -> bytes:
        what = f"{path} of {self.repo}"
        with tempfile.TemporaryDirectory() as folder:
            place = self.api.hf_hub_download(
                self.repo, path, repo_type=self.kind, revision=commit, local_dir=folder, tqdm_class=held.bar(what, size)
            )
            held.check_size(Path(place), what, size)
            return Path(place).read_bytes()

    def tag(self, name: str, commit: str) -> None:
        """Makes a tag; fine if it is there already."""
        doing = f"tagging {self.repo} as {name}"
        self._patiently(doing, self.api.create_tag, self.repo, tag=name, revision=commit, repo_type=self.kind, exist_ok=True)

    def gate(self, how: Literal["auto", "manual"]) -> None:
        """Lets only those have the files who accept the card's terms (auto) or whom the owner lets in (manual)."""
        self._patiently(f"gating {self.repo}", self.api.update_repo_settings, self.repo, gated=how, repo_type=self.kind)

    def set_hardware(self, hardware: str) -> None:
        """Moves a Space that is there already to this hardware; fine if it is on it."""
        doing = f"moving {self.repo} to {hardware}"
        self._patiently(doing, self.api.request_space_hardware, self.repo, SpaceHardware(hardware))

    def collect(self, title: str) -> str:
        """Puts the repository into the owner's collection of that title, which is made where it is missing; its address."""
        doing, owner = f"adding {self.repo} to the collection {title!r}", self.repo.split("/")[0]
        found = self._patiently(doing, self.api.create_collection, title, namespace=owner, exists_ok=True)
        self._patiently(doing, self.api.add_collection_item, found.slug, self.repo, self.kind, exists_ok=True)
        return found.url


class _Missing(Exception):
    """There is no such repository."""


_MISSING = object()


def _addition(file: ReleaseFile) -> CommitOperationAdd:
    """The file as the client wants it; its hash is known, so that it is not computed again."""
    addition = CommitOperationAdd(file.path, file.content)
    addition.upload_info.sha256 = bytes.fromhex(file.sha256)
    return addition


def _cannot_write(account: dict[str, Any], repo: str) -> str:
    """Why the account's token cannot write to the repository, "" if it can as far as the Hub tells."""
    owner, name = repo.split("/")[0], account["name"]
    organizations = {found["name"]: found.get("roleInOrg", "write") for found in account.get("orgs", [])}
    if owner != name and owner not in organizations:
        return f"the token belongs to {name}, who is not {owner} and not a member of it"
    if organizations.get(owner) == "read":
        return f"{name} may only read in the organization {owner}"
    token = account.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        return "the token may only read"
    if token.get("role") == "fineGrained":
        scoped = token.get("fineGrained", {}).get("scoped", [])
        allowed = [s["entity"].get("name") for s in scoped if "repo.write" in s["permissions"]]
        if owner not in allowed and repo not in allowed:
            return f"the fine-grained token may write to {', '.join(map(str, allowed)) or 'nothing'}, not to {repo}"
    return ""
