"""What the app's surroundings say to the libraries that serve it: proxies, and settings of Gradio that its own options replace.

Gradio calls its own server at the start through httpx, which sends that to whatever proxy the environment names.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_KINDS = ("http", "https", "all")
_NOWHERE = "http://127.0.0.1:9"
"""Port 9 discards: what is sent to this proxy fails, and goes nowhere else."""
_REPLACED = ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS", "GRADIO_SHARE")


def settle(host: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Exempts this computer and `host` from proxies, and takes out what `--host`, `--port` and `--share` replace.

    The exemption is a variable, and where there is one httpx looks no further: so the proxies that Windows and macOS keep elsewhere are
    written beside it. Of the exemptions that are there, those stay that httpx can read.
    """
    found = urllib.request.getproxies()
    for kind in _KINDS:
        if kind in found and not _named(environment, f"{kind}_proxy"):
            environment[f"{kind}_proxy"] = found[kind]
    given = ",".join(environment[name] for name in _named(environment, "no_proxy")).split(",")
    exempt = [place for text in given if (place := _exemption(text.strip()))]
    direct = list(dict.fromkeys((*exempt, *LOOPBACK, host)))
    for name in {"no_proxy", "NO_PROXY"}:
        environment[name] = "*" if "*" in direct else ",".join(direct)
    for name in _REPLACED:
        environment.pop(name, None)


@contextmanager
def without_unusable_proxies(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Proxies that httpx refuses are out of sight while Gradio starts: of other kinds, misspelt, or SOCKS without `socksio`.

    What Gradio makes then reaches nothing beyond this computer, rather than going round the proxy. Downloads are told what is wrong.
    """
    names = [name for kind in _KINDS for name in _named(environment, f"{kind}_proxy")]
    hidden = {name: environment[name] for name in names if not _is_usable(environment[name])}
    environment.update(dict.fromkeys(hidden, _NOWHERE))
    try:
        yield
    finally:
        environment.update(hidden)


def _is_usable(proxy: str) -> bool:
    schemes = {"http", "https"} | ({"socks5", "socks5h"} if importlib.util.find_spec("socksio") else set())
    try:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _exemption(text: str) -> str | None:
    """An entry of no_proxy as httpx reads it: IPv6 without brackets, no networks of it (github.com/encode/httpx/issues/3221)."""
    place = text.removeprefix("[").removesuffix("]")
    if ":" not in place or "://" in place:
        return place if re.fullmatch(r"[\w.*:/-]+", place) else None
    try:
        network = ipaddress.ip_network(place.split("%")[0], strict=False)
    except ValueError:
        return place if re.fullmatch(r"[\w.*-]+:\d{1,5}", place) else None
    return str(network.network_address) if network.num_addresses == 1 else None


def _named(environment: MutableMapping[str, str], name: str) -> list[str]:
    """The variables of this name that are set, in small letters first: they win."""
    return [each for each in (name, name.upper()) if environment.get(each)]
