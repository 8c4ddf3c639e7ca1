"""What the Hub's and the network's failures mean, in words: what happened, and what to do. No network here.

Nothing that these texts are made of may carry a secret: tokens are blotted out, and addresses lose their query, where storage
services keep signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # exported under this name for all its versions

from ideogram_q8.errors import PublishError, printable
from ideogram_q8.hub.endpoint import public

AGAIN = "run the same command again: what is stored is not sent a second time"
FAILURES = (httpx.HTTPError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
"""What the client raises where it cannot do its work: HTTP, files and network, wrapped uploads and xet, answers it cannot read."""
_LONGEST = 300
_REMEDIES = {
    401: "the token is not valid or has expired: log in with `hf auth login`, or set HF_TOKEN to a token with write access",
    402: "the account's plan does not include this; see https://huggingface.co/pricing, or use another --hardware",
    403: "the token may not write there: make one with write access to it at https://huggingface.co/settings/tokens",
    404: "it does not exist or this token cannot see it: check the name, and whose token it is (`hf auth whoami`)",
    409: "another operation on it is in progress, or the name is taken: wait a minute, then run the same command again",
    412: "it changed meanwhile: look at what `push --dry-run` says now, then run the same command again",
    413: "the Hub takes no files of this size there",
    422: f"the bytes did not arrive as they left: {AGAIN}",
    429: f"too many requests: wait a few minutes, then {AGAIN}",
}


class HubError(PublishError):
    """A request failed. `status` is the HTTP status, None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_transient(self) -> bool:
        """Whether the same request may go well a little later."""
        return self.status is None or self.status == 429 or self.status >= 500


def explain(doing: str, error: Exception) -> HubError:
    """The error to show: what was being done, what the Hub said, what to do.

    Args:
        doing: as in "sending README.md to someone/model".
    """
    if isinstance(error, LocalTokenNotFoundError):
        return HubError(f"{doing} failed: there is no token; log in with `hf auth login`, or set HF_TOKEN", 401)
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{doing} failed: HF_HUB_OFFLINE is set; unset it to publish", 403)
    answered = next((found for found in _chain(error) if isinstance(found, HfHubHTTPError)), None)
    if answered is None and isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        return HubError(f"{doing} failed: the Hub's answer was not understood ({_said(_cause(error))}); {AGAIN}")
    if answered is None:
        return HubError(f"{doing} failed: {_said(_cause(error))}; check the network, then {AGAIN}")
    status = answered.response.status_code
    if status >= 500:
        remedy = f"the Hub has trouble (see https://status.huggingface.co): {AGAIN}"
    else:
        remedy = _REMEDIES.get(status, "see what the Hub says, and change that")
    said = f" ({_said(answered.server_message)})" if answered.server_message else ""
    return HubError(f"{doing} failed with status {status}{said}; {remedy}", status)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: Exception) -> str:
    """The innermost reason that says anything, with its kind: 'ReadTimeout: timed out'."""
    reasons = [f"{type(found).__name__}: {found}" for found in _chain(error) if str(found)]
    return reasons[-1] if reasons else type(error).__name__


def _said(text: str) -> str:
    flat = " ".join(redact(text).split())
    return printable(flat if len(flat) <= _LONGEST else f"{flat[: _LONGEST - 3]}...")


def redact(text: str, token: str | None = None) -> str:
    """`text` without tokens, whatever they belong to, and without the queries, user names and passwords of addresses."""
    if token:
        text = text.replace(token, "hf_...")
    text = re.sub(r"\bhf_[A-Za-z0-9_]{6,}|\bBearer\s+\S+", "hf_...", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", public(text))
