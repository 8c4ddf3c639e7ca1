"""What the Hub's refusals mean to a person, and what to do. Nothing of a request, so no token, gets into a message."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ideogram_q8.errors import IdeogramQ8Error, ResourceError, SourceError
from ideogram_q8.hub.place import Place, cache_of

UNREACHABLE = "the Hub cannot be reached"


class Unavailable(SourceError):
    """The Hub cannot be reached, or does not let this user in: another time, or after a login, it may. `brief` says it in short."""

    def __init__(self, message: str, brief: str) -> None:
        super().__init__(message)
        self.brief = brief


@contextmanager
def refusals(place: Place) -> Iterator[None]:
    """Turns what huggingface_hub raises into this package's errors, which say what to do and nothing of what was sent."""
    from huggingface_hub import errors

    try:
        yield
    except ImportError as error:
        if "socks" not in str(error).lower():
            raise
        problem = f"{place} on the Hugging Face Hub cannot be reached: a SOCKS proxy is set (see ALL_PROXY)"
        raise Unavailable(f"{problem}, and the package for it is not installed: pip install socksio", UNREACHABLE) from None
    except (OSError, errors.HTTPError, errors.HFValidationError) as error:  # type: ignore[attr-defined]  # of the httpx in use
        raise _refusal(place, error) from None  # so that no traceback shows the request


def unreachable(place: Place) -> Unavailable:
    """The refusal where the Hub cannot be reached, and nothing of the repository is in the cache."""
    where = f"there is no folder {place.repository} here, and {place} on the Hugging Face Hub is not in the cache"
    todo = "connect, unset HF_HUB_OFFLINE, or name a downloaded folder"
    return Unavailable(f"{where} and the Hub cannot be reached: {todo}", UNREACHABLE)


def _refusal(place: Place, error: Exception) -> IdeogramQ8Error:
    """Gated and unreachable are `Unavailable`. A name that the Hub does not know may as well be a folder's, mistyped.

    The Hub answers 401 to a token that it does not know, whatever is asked for. Of the token this looks whether there is one.
    """
    from huggingface_hub import errors, get_token

    page, where = f"https://huggingface.co/{place.repository}", f"{place} on the Hugging Face Hub"
    unless = f"there is no folder {place.repository} here, and {where}"
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401 and get_token() is not None:
        todo = f"log in again with `hf auth login`, or change HF_TOKEN, with one that may read {place.repository}"
        return Unavailable(f"{where} does not take the token that is used here: {todo}", "the token is not taken")
    if isinstance(error, errors.GatedRepoError):
        todo = f"is gated: accept its terms at {page} and log in with `hf auth login`"
        return Unavailable(f"{where} {todo}", "gated: its terms are to be accepted")
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(f"{where} has no such revision: see {page}/commits/main")
    if isinstance(error, errors.RepositoryNotFoundError):
        todo = f"check the name, or log in with `hf auth login` if {page} opens in your browser"
        return SourceError(f"{unless} does not exist or is private: {todo}")
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return unreachable(place)
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return Unavailable(
            f"{unless} cannot be downloaded: the Hub answers {status}; try again later", f"the Hub answers {status}"
        )
    if isinstance(error, errors.HFValidationError):
        return SourceError(f"{unless} cannot exist: the Hub has no such names; expected org/name, or a folder on this disk")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        disk = cache_of(place.repository).parent
        return ResourceError(f"the disk of {disk} is full; what arrived of {where} is kept: make room, and try again")
    kind, todo = type(error).__name__, "and try again: it goes on where it was"
    if isinstance(error, errors.HTTPError):  # type: ignore[attr-defined]  # of the httpx in use
        return Unavailable(f"{unless} cannot be reached ({kind}): check the connection, {todo}", UNREACHABLE)
    return Unavailable(f"{unless} cannot be downloaded ({kind}): check the disk and the connection, {todo}", UNREACHABLE)
