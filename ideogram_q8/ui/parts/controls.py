"""The two buttons that start and cancel a tab's work, and what is said while it waits for its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ideogram_q8.ui.doors.limits import address_of
from ideogram_q8.ui.engine.jobs import Jobs
from ideogram_q8.ui.parts import fragments

DEVICE = "device"
"""The line of events that compute."""
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""For events that answer at once."""
PRIVATE: dict[str, Any] = {**QUIET, "api_visibility": "private"}
"""The same, for events that are no endpoints."""
ON_DEVICE: dict[str, Any] = {"concurrency_id": DEVICE, "concurrency_limit": 1, "show_progress": "hidden"}
"""For events that compute: one at a time over the whole page, as there is one device."""
_ASK_SECONDS = 1.0


@dataclass(frozen=True)
class Controls:
    """The buttons of the tab `name`, and the page's jobs. Only one of the two can be pressed at a time."""

    name: str
    go: gr.Button
    cancel: gr.Button
    clock: gr.Timer
    """Ticks while the job waits."""
    jobs: Jobs

    def connect(self, status: gr.HTML, *idle: gr.components.Component) -> Any:
        """Wires both buttons; the endpoint that cancels is called `cancel_{name}`.

        Args:
            status: where it says how long the line is.
            idle: components that can be used only while nothing runs.

        Returns:
            The event after which the work is to run, with `.then(...)`.
        """
        locked, page = [self.go, *idle], gr.context.Context.root_block

        def start(request: gr.Request) -> list[Any]:
            self.jobs.expect(request.session_hash, self.name, request.username or address_of(request.request))
            ahead = self.jobs.ahead(request.session_hash, self.name)
            buttons = [*(gr.update(interactive=False) for _ in locked), gr.update(interactive=True)]
            return [*buttons, _waiting(ahead), gr.Timer(active=bool(ahead))]

        def cancel(request: gr.Request) -> dict[str, Any]:
            """Stop what this session runs here at its next step; what still waits ends before it starts."""
            if self.jobs.cancel(request.session_hash, self.name) is None and _in_line(page, request.session_hash, self.name):
                self.jobs.expect(request.session_hash, self.name)
                self.jobs.cancel(request.session_hash, self.name)
            return gr.update(interactive=False)

        def look(request: gr.Request) -> list[Any]:
            ahead = self.jobs.ahead(request.session_hash, self.name)
            return [_waiting(ahead), gr.Timer(active=ahead is not None)]

        self.cancel.click(cancel, None, self.cancel, **QUIET, api_name=f"cancel_{self.name}")
        self.clock.tick(look, None, [status, self.clock], **PRIVATE)
        return self.go.click(start, None, [*locked, self.cancel, status, self.clock], **PRIVATE)

    def released(self, request: gr.Request) -> dict[object, object]:
        """The updates after the work has ended, well or not, or was turned away."""
        self.jobs.drop(request.session_hash, self.name)
        return {self.go: gr.update(interactive=True), self.cancel: gr.update(interactive=False)}


def afterwards(run: Any, do: Callable[..., Any], inputs: Any, outputs: Any) -> list[Any]:
    """Does something after an event's work, well or not; returns the events after which that is done.

    Gradio 6.31 says that `then` comes after failures too; its page heeds only `failure` there.
    """
    return [after(do, inputs, outputs, **PRIVATE) for after in (run.then, run.failure)]


def _in_line(page: Any, session: str | None, name: str) -> bool:
    """Whether a session's request to the endpoint `name` waits in Gradio's queue. The page's buttons tell `Jobs`, API clients cannot."""
    lines = list(page._queue.event_queue_per_concurrency_id.values())
    return any(event.session_hash == session and event.fn.api_name == name for line in lines for event in list(line.queue))


def _waiting(ahead: int | None) -> Any:
    return fragments.waiting(ahead) if ahead else gr.skip()


def build_controls(title: str, name: str, jobs: Jobs, *, usable: bool = True) -> Controls:
    """Adds a row with both buttons to the current Blocks context; their ids are `q8-{name}` and `q8-{name}-cancel`."""
    with gr.Row():
        go = gr.Button(title, variant="primary", interactive=usable, elem_id=f"q8-{name}", scale=3)
        cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id=f"q8-{name}-cancel", scale=1)
    return Controls(name, go, cancel, gr.Timer(_ASK_SECONDS, active=False), jobs)
