"""A checkpoint from the Hugging Face Hub, in huggingface_hub's own cache. The token, if any, is its affair and never read here."""

from __future__ import annotations

import re
from pathlib import Path

from ideogram_q8.errors import SourceError

NEEDED = (
    *("model_index.json", "traits.json", "LICENSE*", "*Notice*", "README.md"),
    *(
        "scheduler/*.json",
        "tokenizer/*",
        "text_encoder/*.json",
        "text_encoder/*.safetensors",
        "vae/*.json",
        "vae/*.safetensors",
    ),
    *("transformer/*.json", "transformer/*.safetensors"),
    *("unconditional_transformer/*.json", "unconditional_transformer/*.safetensors"),
)
"""What is downloaded of a repository: the pipeline, and the licence papers that a build of it must carry."""
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})")


def is_repository(location: str) -> bool:
    """Whether a text has the form `org/name`."""
    return _REPOSITORY.fullmatch(location) is not None


def origin(folder: Path) -> tuple[str, str] | None:
    """Repository and commit of a folder in huggingface_hub's cache, by its path; None of any other folder."""
    match = _SNAPSHOT.fullmatch("/".join(folder.parts[-3:]))
    return None if match is None else (f"{match[1]}/{match[2]}", match[3])


def download(repository: str, revision: str | None = None) -> Path:
    """The snapshot of a repository at a branch, tag or commit (`main` without one); what is in the cache is not fetched again.

    Raises:
        SourceError: the Hub refuses or cannot be reached; the message says what to do.
    """
    from huggingface_hub import errors, snapshot_download

    at = f"{repository} at {revision}" if revision else repository
    known = False  # to the Hub; else it may as well be a folder's name that was mistyped
    page = f"https://huggingface.co/{repository}"
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(NEEDED)))
    except errors.GatedRepoError:
        known, reason = True, f"is gated: accept its terms at {page} and log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        known, reason = True, f"has no such revision: see {page}/commits/main"
    except errors.RepositoryNotFoundError:
        reason = f"does not exist or is private: check the name, or log in with `hf auth login` if {page} opens in your browser"
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
        reason = "is not in the cache and the Hub cannot be reached: connect, unset HF_HUB_OFFLINE, or name a downloaded folder"
    except errors.HfHubHTTPError as error:
        reason = f"cannot be downloaded: the Hub answers {error.response.status_code}; try again later"
    except errors.HFValidationError:
        reason = "cannot exist: the Hub has no such names; expected org/name, or a folder on this disk"
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of the httpx that the installed version uses
        reason = f"cannot be downloaded ({type(error).__name__}): check the connection and the space on the disk"
    here = "" if known else f"there is no folder {repository} here, and "
    raise SourceError(f"{here}{at} on the Hugging Face Hub {reason}")
