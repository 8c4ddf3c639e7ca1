"""A request to the loopback Hub, its answer, and who may do what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hub.state import Account, Refusal, Repository

if TYPE_CHECKING:
    from tests.hub.server import Body, Hub


@dataclass(frozen=True)
class Request:
    hub: Hub
    method: str
    path: str
    query: Mapping[str, str]
    body: Body
    account: Account | None
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """`content` may be a file; it is sent from `start` on."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Path = b""
    start: int = 0


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode())


def refused(refusal: Refusal) -> Answer:
    headers = {"X-Error-Message": str(refusal), **({"X-Error-Code": refusal.code} if refusal.code else {})}
    return as_json({"error": str(refusal), **refusal.fields}, refusal.status, **headers)


def account_of(request: Request) -> Account:
    if request.account is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    return request.account


def repository_of(request: Request, kind: str | None, name: str, write: bool = False) -> Repository:
    found = request.hub.state.repositories.get((kind or "model", name))
    account = request.account
    owns = account is not None and name.split("/")[0] in (account.name, *account.organizations)
    if found is None or (found.private and not owns):
        raise Refusal(404 if account else 401, "Repository not found", "RepoNotFound")
    if write:
        if account is None or not owns:
            raise Refusal(403, "Authorization error.")
        check_scope(account, name)
    return found


def check_scope(account: Account, name: str) -> None:
    allowed = {entity for entity, rights in (account.scopes or {}).items() if "repo.write" in rights}
    if account.role == "read" or (account.scopes is not None and not allowed & {name, name.split("/")[0]}):
        raise Refusal(403, "you must use a write token to upload to a repository.")
