"""What stood in the caption's box before, and what was taken back: a frozen value, text in, text out."""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST = 100
"""Texts that are kept each way; the oldest is forgotten first."""


@dataclass(frozen=True)
class Revisions:
    """The text as it is, those before it (the newest last), and those that undoing left (the next to redo last)."""

    now: str = ""
    past: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()

    def seen(self, text: str) -> Revisions:
        """With `text` as the newest; the same revisions where it is that already."""
        if text == self.now:
            return self
        return Revisions(text, (*self.past, self.now)[-MOST:])

    def undo(self, text: str) -> Revisions:
        """One step back from `text`, which may not have been seen yet."""
        known = self.seen(text)
        if not known.past:
            return known
        return Revisions(known.past[-1], known.past[:-1], (*known.undone, known.now)[-MOST:])

    def redo(self, text: str) -> Revisions:
        """One step forward from `text`; nowhere where `text` was typed since."""
        known = self.seen(text)
        if not known.undone:
            return known
        return replace(known, now=known.undone[-1], past=(*known.past, known.now)[-MOST:], undone=known.undone[:-1])
