"""The two buttons that start and cancel a tab's work. Only one of them can be pressed at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from ideogram_q8.ui.jobs import Jobs

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""For events that answer at once."""
ON_DEVICE: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1, "show_progress": "hidden"}
"""For events that compute: one at a time over the whole page, as there is one device."""


@dataclass(frozen=True)
class Controls:
    """The buttons and the jobs that they start and cancel."""

    go: gr.Button
    cancel: gr.Button
    jobs: Jobs = field(default_factory=Jobs)

    def connect(self, name: str, *idle: gr.components.Component) -> Any:
        """Wires both buttons.

        Args:
            name: the endpoint that cancels is called `cancel_{name}`.
            idle: components that can be used only while nothing runs.

        Returns:
            The event after which the work is to run, with `.then(...)`.
        """
        locked = [self.go, *idle]

        def start_job(request: gr.Request) -> list[dict[str, Any]]:
            self.jobs.expect(request.session_hash)
            return [*(gr.update(interactive=False) for _ in locked), gr.update(interactive=True)]

        def cancel(request: gr.Request) -> dict[str, Any]:
            """Stop what this session runs here at its next step."""
            self.jobs.cancel(request.session_hash)
            return gr.update(interactive=False)

        self.cancel.click(cancel, None, self.cancel, **QUIET, api_name=f"cancel_{name}")
        return self.go.click(start_job, None, [*locked, self.cancel], **QUIET, api_visibility="private")

    def released(self) -> dict[object, object]:
        """The updates after the work has ended, well or not."""
        return {self.go: gr.update(interactive=True), self.cancel: gr.update(interactive=False)}


def build_controls(title: str, elem_id: str) -> Controls:
    """Adds a row with both buttons to the current Blocks context; the second one's id is `{elem_id}-cancel`."""
    with gr.Row():
        go = gr.Button(title, variant="primary", elem_id=elem_id, scale=3)
        cancel = gr.Button("Cancel", variant="stop", interactive=False, elem_id=f"{elem_id}-cancel", scale=1)
    return Controls(go, cancel)
