"""Two files, two transformers: which file is which, found by names, and refused where it is the other way round.

A picture of swapped transformers looks like one of a bad build, so what tells is compared before anything is painted: what the files say of
themselves, the names that people give them, whether they are one file twice, and whether the conditional one's text projection was ever
trained. Each of these can be wrong about a file that someone means as it is; then the check is left out on request.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ideogram_q8.errors import SourceError
from ideogram_q8.model.architecture import BRANCHES, COMPONENT_FOLDERS, Branch

BRANCH_KEY = "ideogram_q8.branch"
"""In the header of a file of this package: what it holds."""
MODEL_TYPES: Mapping[str, Branch] = {"ideogram4_cond": "conditional", "ideogram4_uncond": "unconditional"}
"""What `model_type` says in Comfy-Org's files, and in ours."""
NONE = "none"
"""Named in place of the unconditional transformer's file: there is none, and the conditional one is taken alone."""
AS_GIVEN = "or use --as-given if the files are meant so"
_FOLDERS: Mapping[str, Branch] = {COMPONENT_FOLDERS[branch]: branch for branch in BRANCHES}
_NORM = "llm_cond_norm.weight"
_UNCONDITIONAL = re.compile(r"uncond", re.IGNORECASE)
_CONDITIONAL = re.compile(r"(?:^|[-_. ])cond(?:itional)?(?=[-_. ]|$)", re.IGNORECASE)
_BRANCH_WORD = re.compile(r"[-_.]?(?:un)?cond(?:itional)?(?=[-_.])")


@dataclass(frozen=True)
class Member:
    """One of two transformers: its files, what their header says, and `read`, which gives a vector by its official name."""

    files: tuple[Path, ...]
    metadata: Mapping[str, str]
    read: Callable[[str], torch.Tensor]

    @property
    def says(self) -> str | None:
        """The branch that the file says that it is; most say nothing."""
        return self.metadata.get(BRANCH_KEY) or MODEL_TYPES.get(self.metadata.get("model_type", ""))


def is_none(unconditional: str | Path | None) -> bool:
    """Whether someone said that the conditional transformer is to be taken alone."""
    return unconditional is not None and str(unconditional) == NONE


def check_alone(conditional: Member) -> None:
    """Raises SourceError: what is to be the only transformer is the unconditional one, by its header, its name or its folder's."""
    path = conditional.files[0]
    if "unconditional" in (conditional.says, named_branch(path), _FOLDERS.get(path.parent.name)):
        raise SourceError(f"{path} is the unconditional one, expected the conditional one; name its file, {AS_GIVEN}")


def check(conditional: Member, unconditional: Member) -> None:
    """Raises SourceError: they are swapped, or one was given twice; the message says what shows it."""
    members: dict[Branch, Member] = {"conditional": conditional, "unconditional": unconditional}
    for branch, member in members.items():
        if member.says not in (None, branch):
            raise SourceError(
                f"{member.files[0]} says that it is the {member.says} one, expected the {branch} one; swap the two files, {AS_GIVEN}"
            )
    if _same(conditional.files, unconditional.files):
        raise SourceError(
            f"{conditional.files[0]} and {unconditional.files[0]} are one and the same transformer; name the conditional one and the "
            f"unconditional one, {AS_GIVEN}"
        )
    if conditional.says is None or unconditional.says is None:
        _check_names(conditional.files[0], unconditional.files[0])
        _check_projections(conditional, unconditional)


def _same(first: tuple[Path, ...], second: tuple[Path, ...]) -> bool:
    """Whether files have the same bytes; of two that differ little more than their headers is read."""
    pairs = list(zip(first, second, strict=False))
    return len(first) == len(second) and all(a.samefile(b) or filecmp.cmp(a, b, shallow=False) for a, b in pairs)


def _check_names(conditional: Path, unconditional: Path) -> None:
    """Raises SourceError: the files are swapped by their names, or by the names of their folders where those are two."""
    apart = conditional.parent != unconditional.parent
    given: tuple[tuple[Path, Branch], ...] = ((conditional, "conditional"), (unconditional, "unconditional"))
    for path, expected in given:
        found = named_branch(path) or (_FOLDERS.get(path.parent.name) if apart else None)
        if found not in (None, expected):
            raise SourceError(
                f"{path} is the {found} one by its name, expected the {expected} one; swap the two files, {AS_GIVEN}"
            )


def named_branch(path: Path) -> Branch | None:
    """The branch that a file's name tells."""
    if _UNCONDITIONAL.search(path.name):
        return "unconditional"
    return "conditional" if _CONDITIONAL.search(path.stem) else None


def _check_projections(conditional: Member, unconditional: Member) -> None:
    """The unconditional one never runs its text projection. Where training left that as it began, its norm is one number throughout."""
    untouched = [bool((norm == norm[0]).all()) for norm in (conditional.read(_NORM), unconditional.read(_NORM))]
    if untouched == [True, False]:
        raise SourceError(
            f"{conditional.files[0]} has a text projection that was never trained, expected it in the unconditional one, which does not "
            f"run it; swap the two files, {AS_GIVEN}"
        )


def other_branch(conditional: Path, shards: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)) -> Path:
    """The unconditional transformer's file beside the conditional one's, by the names in use.

    `ideogram4-Q8_0`, `ideogram4-transformer-q4_0`, `ideogram4_cond_Q5_K` go with `ideogram4_uncond-Q8_0`,
    `ideogram4-unconditional_transformer-q4_0`, `ideogram4_unconditional_Q5_K`: equal but for the branch's word and - for _.

    Args:
        shards: all files that one is a part of, the first first.

    Raises:
        SourceError: `conditional` is not there or named as the other one, or there is not exactly one file of such a name.
    """
    first, suffix = shards(conditional)[0], conditional.suffix.lower()
    if _UNCONDITIONAL.search(conditional.name):
        raise SourceError(f"{conditional} is the unconditional one by its name; name the conditional one's file first")
    if not conditional.is_file():
        raise SourceError(f"there is no file {conditional}; check the path")
    beside = conditional.parent.glob("*")
    named = (path for path in beside if path.suffix.lower() == suffix and _UNCONDITIONAL.search(path.name))
    others = sorted(path for path in named if shards(path)[0] == path)
    found = [path for path in others if _without_branch(path.name) == _without_branch(first.name)]
    if len(found) != 1:
        seen = ", ".join(path.name for path in found or others) or "none"
        raise SourceError(
            f"{conditional} is one of two transformers, and the unconditional one beside it is not to be told from names "
            f"({seen[:300]}); name its file too, or --unconditional {NONE} if there is none"
        )
    return found[0]


def _without_branch(name: str) -> str:
    return _BRANCH_WORD.sub("", name.lower()).replace("_", "-")
