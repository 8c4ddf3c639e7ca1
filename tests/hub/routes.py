"""What each request to the loopback Hub does, as functions of the request."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote

import yaml

from tests.hub.messages import Answer, Request, account_of, as_json, check_scope, repository_of
from tests.hub.state import Commit, Entry, Refusal, git_oid, is_large
from tests.hub.storage import batch, complete, store, verify, xet_token

DATE = "2026-08-31T12:00:00.000Z"
ID = r"(?P<kind>model|space|dataset)s/(?P<id>[\w.-]+/[\w.-]+)"
FILE = r"(?:(?P<kind>space|dataset)s/)?(?P<id>[\w.-]+/[\w.-]+)"


def answer(request: Request) -> Answer:
    for method, pattern, function in ROUTES:
        found = re.fullmatch(pattern, request.path)
        if found and request.method in method.split():
            return function(request, **found.groupdict())
    raise Refusal(404, f"no route for {request.method} {request.path}")


def whoami(request: Request) -> Answer:
    account = account_of(request)
    token: dict[str, object] = {"displayName": "test", "role": account.role}
    if account.scopes is not None:
        scoped = [
            {"entity": {"type": "model" if "/" in name else "user", "name": name}, "permissions": list(rights)}
            for name, rights in account.scopes.items()
        ]
        token = {"displayName": "test", "role": "fineGrained", "fineGrained": {"scoped": scoped, "global": []}}
    organizations = [{"name": name, "roleInOrg": "write"} for name in account.organizations]
    return as_json(
        {"type": "user", "name": account.name, "orgs": organizations, "auth": {"type": "access_token", "accessToken": token}}
    )


def create(request: Request) -> Answer:
    account, values = account_of(request), request.body.json()
    owner = values.get("organization") or account.name
    name, kind = f"{owner}/{values['name']}", values.get("type") or "model"
    if owner not in (account.name, *account.organizations):
        raise Refusal(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}")
    check_scope(account, name)
    url = f"{request.hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"
    try:
        request.hub.state.create(kind, name, values.get("visibility") == "private", values)
    except Refusal as refusal:
        raise Refusal(refusal.status, str(refusal), url=url) from refusal
    return as_json({"url": url})


def validate_yaml(request: Request) -> Answer:
    found = re.match(r"---\n(.*?)\n---\n", request.body.json()["content"], re.DOTALL)
    try:
        values = yaml.safe_load(found[1]) if found else None
        errors = [] if isinstance(values, dict) else [{"message": "empty or missing yaml metadata in repo card"}]
    except yaml.YAMLError as error:
        errors = [{"message": str(error)}]
    return as_json({"errors": errors, "warnings": []}, 400 if errors else 200)


def info(request: Request, kind: str, id: str, revision: str = "main") -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id)
    commit = repository.at(revision)
    siblings = [{"rfilename": path} for path in sorted(commit.files)]
    values = {"id": id, "modelId": id, "sha": commit.oid, "private": repository.private, "disabled": False}
    values["gated"] = repository.gated
    values |= {"tags": [], "downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE, "siblings": siblings}
    return as_json(values)


def tree(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    files = repository_of(request, kind, id).at(revision).files
    folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
    listed: list[dict[str, object]] = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    return as_json(listed + [_described(path, entry) for path, entry in sorted(files.items())])


def _described(path: str, entry: Entry) -> dict[str, object]:
    value: dict[str, object] = {"type": "file", "path": path, "size": entry.size, "oid": entry.git_oid}
    return value | ({"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": 134}} if entry.large else {})


def paths_info(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    wanted = re.findall(r"paths=([^&]*)", request.body.read().decode())
    files = repository_of(request, kind, id).at(revision).files
    return as_json([_described(path, files[path]) for path in map(unquote, wanted) if path in files])


def preupload(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    files = repository_of(request, kind, id, write=True).at(revision).files
    found = []
    for wanted in request.body.json()["files"]:
        path, old = wanted["path"], files.get(wanted["path"])
        large = is_large(path, wanted["size"])
        value = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        found.append(value | ({"oid": old.sha256 if large else old.git_oid} if old else {}))
    return as_json({"files": found})


def commit(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id, write=True)
    lines = [json.loads(line) for line in request.body.read().splitlines()]
    header = lines[0]["value"]
    changes = dict(_changes(request, lines[1:]))
    made = request.hub.state.commit(repository, revision, header.get("parentCommit"), header["summary"], changes)
    return as_json({"commitOid": made.oid, "commitUrl": f"{request.hub.endpoint}/{id}/commit/{made.oid}", "success": True})


def _changes(request: Request, lines: list[dict]) -> Iterator[tuple[str, Entry | None]]:
    state = request.hub.state
    for line in lines:
        value = line["value"]
        path = value["path"]
        if line["key"] == "file":
            yield path, state.regular(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            size = value.get("size") or state.blobs.path(value["oid"]).stat().st_size
            yield path, state.large(value["oid"], size)
        else:
            yield path.rstrip("/") + ("/" if line["key"] == "deletedFolder" else ""), None


def refs(request: Request, kind: str, id: str) -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id)

    def listed(kind: str, names: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]

    tags, branches = listed("tags", repository.tags), listed("heads", repository.branches)
    return as_json({"branches": branches, "tags": tags, "converts": []})


def commits(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id)
    found: Commit | None = repository.at(revision)
    listed = []
    while found:
        listed.append({"id": found.oid, "title": found.title, "message": "", "date": DATE, "authors": []})
        found = repository.commits.get(found.parent or "")
    return as_json(listed)


def tag(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    repository, name = repository_of(request, kind, id, write=True), request.body.json()["tag"]
    if name in repository.tags:
        raise Refusal(409, f"Tag {name} already exists")
    repository.tags[name] = repository.at(revision).oid
    return as_json({})


def branch(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id, write=True)
    if revision in repository.branches:
        raise Refusal(409, f"Branch {revision} already exists")
    repository.branches[revision] = repository.at(request.body.json().get("startingPoint") or "main").oid
    return as_json({})


def settings(request: Request, kind: str, id: str) -> Answer:  # noqa: A002
    repository, wanted = repository_of(request, kind, id, write=True), request.body.json()
    repository.gated = wanted.get("gated", repository.gated)
    return as_json(wanted)


def auth_check(request: Request, kind: str, id: str) -> Answer:  # noqa: A002
    repository, account = repository_of(request, kind, id), account_of(request)
    if repository.gated and account.name not in repository.accepted | {id.split("/")[0]}:
        raise Refusal(403, f"Access to model {id} is restricted", "GatedRepo")
    return as_json({})


def hardware(request: Request, kind: str, id: str) -> Answer:  # noqa: A002
    repository, wanted = repository_of(request, kind, id, write=True), request.body.json()["flavor"]
    repository.settings = {**repository.settings, "hardware": wanted}
    return as_json(
        {"stage": "BUILDING", "hardware": {"current": None, "requested": wanted}, "storage": None, "gcTimeout": None}
    )


def resolve(request: Request, id: str, revision: str, path: str, kind: str | None = None) -> Answer:  # noqa: A002
    repository = repository_of(request, kind, id)
    if repository.gated and (request.account is None or request.account.name not in repository.accepted | {id.split("/")[0]}):
        raise Refusal(403 if request.account else 401, f"Access to model {id} is restricted", "GatedRepo")
    found = repository.at(revision)
    if path not in found.files:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    entry = found.files[path]
    file = request.hub.state.blobs.path(entry.sha256)
    wanted = re.match(r"bytes=(\d+)-", request.headers.get("Range") or "")
    start = int(wanted[1]) if wanted and request.hub.resumes else 0
    headers = {"X-Repo-Commit": found.oid, "ETag": f'"{entry.sha256 if entry.large else entry.git_oid}"'}
    headers |= {"Content-Length": str(entry.size - start), "X-Linked-Size": str(entry.size)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{entry.size - 1}/{entry.size}"
    return Answer(206 if start else 200, headers, file, start)


def create_collection(request: Request) -> Answer:
    account, values = account_of(request), request.body.json()
    slug = f"{values['namespace']}/{values['title'].lower().replace(' ', '-')}-{git_oid(values['title'].encode())[:24]}"
    if values["namespace"] not in (account.name, *account.organizations):
        raise Refusal(403, "Authorization error.")
    if slug in request.hub.state.collections:
        raise Refusal(409, "This collection already exists", slug=slug)
    made: dict[str, object] = {"slug": slug, "title": values["title"], "owner": values["namespace"], "items": []}
    made |= {"lastUpdated": DATE, "position": 0, "private": values["private"], "theme": "green", "upvotes": 0}
    request.hub.state.collections[slug] = made
    return as_json(made)


def collection(request: Request, slug: str) -> Answer:
    if slug not in request.hub.state.collections:
        raise Refusal(404, "Collection not found")
    return as_json(request.hub.state.collections[slug])


def add_item(request: Request, slug: str) -> Answer:
    account_of(request)
    found = json.loads(collection(request, slug).content)
    wanted = request.body.json()["item"]
    if any(item["id"] == wanted["id"] for item in found["items"]):
        raise Refusal(409, "This item is already in the collection")
    found["items"].append({"_id": str(len(found["items"])), "position": len(found["items"]), **wanted})
    request.hub.state.collections[slug] = found
    return as_json(found)


REVISION = r"(?P<revision>[^/]+)"
SLUG = r"(?P<slug>[\w.-]+/[\w.-]+)"
ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", f"/api/{ID}", info),
    ("GET", f"/api/{ID}/revision/{REVISION}", info),
    ("GET", f"/api/{ID}/tree/{REVISION}", tree),
    ("POST", f"/api/{ID}/paths-info/{REVISION}", paths_info),
    ("POST", f"/api/{ID}/preupload/{REVISION}", preupload),
    ("POST", f"/api/{ID}/commit/{REVISION}", commit),
    ("GET", f"/api/{ID}/refs", refs),
    ("PUT", f"/api/{ID}/settings", settings),
    ("GET", f"/api/{ID}/auth-check", auth_check),
    ("POST", f"/api/{ID}/hardware", hardware),
    ("GET", f"/api/{ID}/commits/{REVISION}", commits),
    ("POST", f"/api/{ID}/tag/{REVISION}", tag),
    ("POST", f"/api/{ID}/branch/{REVISION}", branch),
    ("GET", f"/api/{ID}/xet-write-token/{REVISION}", xet_token),
    ("POST", "/api/collections", create_collection),
    ("GET", f"/api/collections/{SLUG}", collection),
    ("POST", f"/api/collections/{SLUG}/items", add_item),
    ("POST", rf"/{FILE}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", store),
    ("POST", r"/complete/(?P<oid>[0-9a-f]{64})", complete),
    ("POST", "/verify", verify),
    ("GET HEAD", rf"/{FILE}/resolve/{REVISION}/(?P<path>.+)", resolve),
)
