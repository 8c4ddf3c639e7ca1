"""Gradio's server with this app's doors and limits around it: what `Blocks.launch(_app=...)` takes."""

from __future__ import annotations

import logging
from pathlib import Path

from fastapi.exceptions import RequestValidationError
from gradio.exceptions import ComponentProcessingError
from gradio.routes import App, ORJSONResponse
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from ideogram_q8.ui.doors import Doors, Names
from ideogram_q8.ui.limits import Limits, Refusals
from ideogram_q8.ui.line import Sessions

_NOT_UNDERSTOOD = (
    RequestValidationError,
    ComponentProcessingError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""What Gradio 6.31 raises outside its own handling for requests of another form: an endpoint that is not there, a body that is no object.
Its own answers repeat what was sent."""
_log = logging.getLogger(__name__)


class GuardedApp(App):
    """The server.

    Args:
        names: the hosts that it answers for; others may take their place while it serves.
        uploads: where uploads go; made when missing.
    """

    def __init__(self, names: Names, uploads: Path) -> None:
        handlers = dict.fromkeys(_NOT_UNDERSTOOD, _not_understood)
        super().__init__(default_response_class=ORJSONResponse, exception_handlers=handlers)
        self.names, self.uploads = names, uploads
        self.state_holder = Sessions()

    def build_middleware_stack(self) -> ASGIApp:
        """Outermost, before anything of Gradio's reads a request: `Doors`, then `Limits`."""
        self.user_middleware.append(Middleware(Refusals))
        return Doors(Limits(super().build_middleware_stack(), self.uploads), lambda: self.names)


async def _not_understood(request: Request, error: Exception) -> PlainTextResponse:
    _log.info("%s was not understood", request.url.path, exc_info=error)
    return PlainTextResponse("the request is not of the form that this endpoint takes\n", 422)
