"""Gradio, imported in two thirds of the time.

Gradio 6 writes an editor's stub (.pyi) beside the source of each of its components whenever it is imported, or finds that it is there
already, which takes over a second. It leaves out a class whose source file cannot be told, so none can while it is imported.
"""

from __future__ import annotations

import inspect
from unittest import mock


def import_gradio() -> None:
    """To be called before anything else imports Gradio, while no other thread asks `inspect` for a file."""
    with mock.patch.object(inspect, "getfile", side_effect=OSError):
        import gradio  # noqa: F401
