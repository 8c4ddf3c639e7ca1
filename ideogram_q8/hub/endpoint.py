"""The address of the Hub, HF_ENDPOINT: shown without what is secret in it, and warned of where a token would go there unencrypted."""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
from urllib.parse import urlsplit

from ideogram_q8.errors import printable

_log = logging.getLogger(__name__)


def public(text: str) -> str:
    """A text whose addresses have lost their user names and passwords: https://me:secret@host/x -> https://host/x."""
    return re.sub(r"(?i)(https?://)[^\s/?#'\"]*@", r"\1", text)


def warn_of_plain_http(endpoint: str, with_token: bool) -> None:
    """Logs one warning a process where a token goes to an address by plain http, unless that is this computer."""
    if with_token and _is_plain(endpoint):
        _warn(public(endpoint))


@functools.cache
def _warn(endpoint: str) -> None:
    _log.warning("%s", printable(f"the token is sent to {endpoint} unencrypted: use https in HF_ENDPOINT, or unset HF_TOKEN"))


def _is_plain(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme.lower() == "https" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True
