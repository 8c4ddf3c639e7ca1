"""Plain text -> a structured caption, written in turn with the pictures on the same device. Knows nothing of Gradio."""

from __future__ import annotations

from collections.abc import Generator

from ideogram_q8.errors import SourceError
from ideogram_q8.runtime.text.expansion import Expansion, Idea, expand, look_for_head
from ideogram_q8.ui.engine.streaming import Emit, stream
from ideogram_q8.ui.engine.studio import Studio, warm_up


class Expander:
    """Writes with a studio's text encoder. `head` is what it lacks of a language model, or in words why that is not there.

    Raises:
        SourceError: the head that was named for the studio is not what it should be.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.head = look_for_head(studio.folder, studio.prompt_expander)

    @property
    def problem(self) -> str | None:
        """Why nothing can be expanded; None where it can."""
        return self.head if isinstance(self.head, str) else None

    def expand(self, idea: Idea) -> Generator[int | Expansion, None, None]:
        """Yields how many tokens are written, last the caption. Closing the iterator stops the work at its next token.

        Raises:
            IdeogramQ8Error: there is nothing to write with or to expand, no caption came out, or memory ran out.
        """
        head = self.head
        if isinstance(head, str):
            raise SourceError(head)
        idea.check()
        warm_up()

        def work(emit: Emit[int | Expansion]) -> None:
            with self.studio.turn(emit) as report:
                report(0)
                report(expand(*self.studio.text_encoder(), head, idea, report))

        yield from stream(work)
