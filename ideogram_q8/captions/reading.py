"""What a person typed, pasted or saved, as a caption: the one way in for the command line, the app and calibration.

Taking a caption out of what it came in changes nothing in it, so it is done wherever a caption is read, and said. Mending changes it,
so it is done where a person sees it: `caption --mend`, the Caption tab, the answer of a language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ideogram_q8.captions.box_forms import Size
from ideogram_q8.captions.findings import Finding, of_issue
from ideogram_q8.captions.json_form import canonical, lint, wrap_plain_text
from ideogram_q8.captions.keys import is_caption
from ideogram_q8.captions.repair import repair
from ideogram_q8.captions.unwrap import unwrap
from ideogram_q8.errors import CaptionError


@dataclass(frozen=True)
class Reading:
    """A text read as a caption.

    Attributes:
        given: the caption as it was taken out of the text, canonical, its faults still in it; None where there is none.
        mended: the same as far as it can be mended, canonical; `given` itself where that has no faults.
        is_sentence: the text is a plain sentence, which `given` wraps.
        taken: what stood around it.
        faults: of `given`, by the rules of training.
        done: what mending did.
        left: the faults of `mended`, or why there is no caption.
        warnings: what can hardly be meant, in a caption that is sound.
    """

    given: str | None
    mended: str | None
    is_sentence: bool = False
    taken: tuple[Finding, ...] = ()
    faults: tuple[Finding, ...] = ()
    done: tuple[Finding, ...] = ()
    left: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()

    @property
    def caption(self) -> str | None:
        """The sound canonical caption, mended where it had to be; None where faults are left."""
        return None if self.left else self.mended

    @property
    def verdict(self) -> Literal["sound", "mended", "refused"]:
        """Whether `caption` is what was given, or a mended form of it, or none."""
        if self.left:
            return "refused"
        return "mended" if self.taken or self.done else "sound"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that is to be said, in the order in which it was found."""
        return (*self.taken, *self.done, *self.left, *self.warnings)


def understand(text: str, size: Size | None = None) -> Reading:
    """Reads a text of any kind; never raises.

    Args:
        size: width and height in pixels of the picture that boxes were drawn on, where they are not in thousandths.
    """
    try:
        value, taken = unwrap(text)
        is_sentence = isinstance(value, str)
        given = wrap_plain_text(value) if isinstance(value, str) else value
        return _checked(given, is_sentence, tuple(taken), size)
    except CaptionError as error:
        return Reading(None, None, left=(Finding("", "fault", str(error).removeprefix("caption: ")),))


def accept(text: str) -> tuple[str, list[Finding]]:
    """The sound canonical caption in a text, what stood around it, and warnings. Nothing in the caption is changed.

    Raises:
        CaptionError: there is none, or it has faults: the message names the first, `problems` all of them, and `is_mendable` tells
            whether mending leaves none.
    """
    value, taken = unwrap(text)
    return _accepted(
        _checked(wrap_plain_text(value) if isinstance(value, str) else value, isinstance(value, str), tuple(taken), None)
    )


def to_caption(text: str) -> str:
    """What a person typed, as canonical caption text: a JSON caption stays, a sentence is wrapped.

    What a caption came in (a code fence, prose, quotation marks) is left aside; `accept` says what that was.

    Raises:
        CaptionError: empty, too long, or what looks like a caption and is none without errors; names the first fault.
    """
    return accept(text)[0]


def _accepted(reading: Reading) -> tuple[str, list[Finding]]:
    if reading.faults:
        faults = list(map(str, reading.faults))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        message = f"caption is not valid: {faults[0]}{more}"
        raise CaptionError(message, faults if more else (), is_mendable=reading.caption is not None)
    assert reading.given is not None  # only a text that is refused has none
    return reading.given, [*reading.taken, *reading.warnings]


def _checked(value: dict[str, Any], is_sentence: bool, taken: tuple[Finding, ...], size: Size | None) -> Reading:
    given = canonical(value)
    faults, warnings = _linted(value)
    if not faults:
        return Reading(given, given, is_sentence, taken, warnings=warnings)
    if is_sentence or not is_caption(value):
        return Reading(given, given, is_sentence, taken, faults, left=faults)
    mended, done = repair(value, size)
    left, warnings = _linted(mended)
    return Reading(given, canonical(mended), is_sentence, taken, faults, tuple(done), left, warnings)


def _linted(value: dict[str, Any]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    """Faults and warnings."""
    found = [of_issue(issue) for issue in lint(value)]
    return tuple(each for each in found if each.kind == "fault"), tuple(each for each in found if each.kind == "warning")
