"""The loopback Hub's storage for large files: LFS whole or in parts, and the token for xet's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.hub.messages import Answer, Request, as_json, repository_of
from tests.hub.state import Refusal

if TYPE_CHECKING:
    from tests.hub.server import Hub


def batch(request: Request, id: str, kind: str | None = None) -> Answer:  # noqa: A002
    repository_of(request, kind, id, write=True)
    return as_json({"transfer": "basic", "objects": [_wanted(request.hub, found) for found in request.body.json()["objects"]]})


def _wanted(hub: Hub, found: dict) -> dict:
    oid, size = found["oid"], found["size"]
    if hub.state.blobs.has(oid):
        return {"oid": oid, "size": size}
    upload: dict[str, object] = {"href": f"{hub.endpoint}/storage/{oid}?X-Signature=secret"}
    if hub.part_bytes and size > hub.part_bytes:
        parts = range(1, -(-size // hub.part_bytes) + 1)
        urls = {str(number): f"{hub.endpoint}/storage/{oid}/{number}" for number in parts}
        upload = {"href": f"{hub.endpoint}/complete/{oid}", "header": {"chunk_size": str(hub.part_bytes), **urls}}
        return {"oid": oid, "size": size, "actions": {"upload": upload}}
    return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{hub.endpoint}/verify"}}}


def store(request: Request, oid: str, part: str | None = None) -> Answer:
    """Takes the bytes of a large file or of a part of one. As S3 does: what is cut off is not kept."""
    target = request.hub.folder / "parts" / f"{oid}.{part or 'whole'}"
    partial, digest, size = target.with_suffix(".partial"), hashlib.sha256(), 0
    with partial.open("wb") as file:
        for piece in request.body.pieces():
            digest.update(piece)
            size += len(piece)
            if piece.strip(b"\0"):
                file.write(piece)
            else:
                file.seek(len(piece), 1)
        file.truncate(size)
    with request.hub.lock:
        request.hub.received += size
    partial.rename(target)
    if part is None and digest.hexdigest() == oid:
        target.rename(request.hub.state.blobs.path(oid))
    return Answer(200, {"ETag": f'"{digest.hexdigest()[:32]}"'})


def complete(request: Request, oid: str) -> Answer:
    """Puts the parts together."""
    folder, parts = request.hub.folder / "parts", request.body.json()["parts"]
    content = b"".join((folder / f"{oid}.{part['partNumber']}").read_bytes() for part in parts)
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refusal(422, "the parts do not have the sha256 that was announced")
    request.hub.state.blobs.put(content)
    return as_json({})


def verify(request: Request) -> Answer:
    wanted = request.body.json()
    path = request.hub.state.blobs.path(wanted["oid"])
    if not path.is_file() or path.stat().st_size != wanted["size"]:
        raise Refusal(422, "the file that arrived does not have the sha256 that was announced")
    return as_json({})


def xet_token(request: Request, kind: str, id: str, revision: str) -> Answer:  # noqa: A002
    repository_of(request, kind, id, write=True)
    if request.hub.xet is None:
        raise Refusal(404, "no xet here")
    request.hub.state.blobs.promised = True
    url = f"local://{request.hub.xet}"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": "9999999999"}
    return as_json({"accessToken": "xet", "exp": 9999999999, "casUrl": url}, **headers)
