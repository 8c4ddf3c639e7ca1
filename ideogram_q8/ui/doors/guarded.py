"""Gradio's server and page with this app's doors, limits and checks around them: `Page(...)`, and what its `launch(_app=...)` takes."""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from gradio.routes import App, ORJSONResponse
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.doors import arguments
from ideogram_q8.ui.doors.accounts import LoggedIn
from ideogram_q8.ui.doors.limits import Limits, Refusals
from ideogram_q8.ui.doors.middleware import API, Doors, Names
from ideogram_q8.ui.engine.line import Sessions
from ideogram_q8.ui.parts.form import refusal

_NOT_UNDERSTOOD = (
    RequestValidationError,
    FnIndexInferError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""What Gradio 6.31 raises outside its own handling for requests of another form: an endpoint that is not there, a body that is no object.
Its own answers repeat what was sent."""
_HEARTBEAT = re.compile(rf"{API}/heartbeat/([^/]+)")
"""What an open page listens to, for as long as it is open."""
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
        self.sessions = self.state_holder = Sessions()

    def build_middleware_stack(self) -> ASGIApp:
        """Outermost, before anything of Gradio's reads a request: `Doors`, then `Limits`, `LoggedIn` and `Pages`."""
        self.user_middleware.append(Middleware(Refusals))
        inner = LoggedIn(Pages(super().build_middleware_stack(), self.sessions), self)
        return Doors(Limits(inner, self.uploads), lambda: self.names)


class Pages:
    """The middleware that tells `sessions` which of them have a page open."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything on."""
        found = _HEARTBEAT.fullmatch(scope["path"]) if scope["type"] == "http" else None
        with self._sessions.page(found[1]) if found else nullcontext():
            await self.app(scope, receive, send)


class Page(gr.Blocks):
    """Gradio's page, whose endpoints see only what `arguments` lets through."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> list[Any]:
        """Raises gr.Error: too few or many values, or one that is not as its endpoint takes it."""
        expected = len(block_fn.inputs)
        if len(inputs) != expected:
            raise refusal(RequestError(f"got {len(inputs)} arguments; expected {expected}"))
        try:
            checked = [arguments.check(block, value) for block, value in zip(block_fn.inputs, inputs, strict=True)]
            found: list[Any] = await super().preprocess_data(block_fn, checked, state, explicit_call)
        except RequestError as error:
            raise refusal(error) from error
        except gr.Error as error:  # Gradio's own repeats what was sent, and prints a traceback
            raise refusal(RequestError(error.message)) from error
        except (ValueError, TypeError, KeyError, OSError) as error:  # what Gradio makes of values that it does not expect
            raise refusal(RequestError("an argument is not of the kind that this endpoint takes")) from error
        return found

    async def process_api(self, block_fn: Any, inputs: list[Any], *rest: Any, **options: Any) -> dict[str, Any]:
        """Raises gr.Error: as `preprocess_data`, or an event that says of itself what none does."""
        event, known = options.get("event_data"), self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        if known.collects_event_data:
            try:
                arguments.check_event(event._data if event else None)
            except RequestError as error:
                raise refusal(error) from error
        found: dict[str, Any] = await super().process_api(block_fn, inputs, *rest, **options)
        return found


async def _not_understood(request: Request, error: Exception) -> PlainTextResponse:
    _log.info("%s was not understood", request.url.path, exc_info=error)
    return PlainTextResponse("the request is not of the form that this endpoint takes\n", 422)
