"""The line before the device, made fair: one waiting job for each session, few for each visitor, none for longer than half an hour.

Sessions are held to the same.

Gradio 6.31 counts the events of a page's whole queue against one limit, whoever they are of, and keeps what waits for ever
(gradio/queueing.py, push). It keeps 10,000 sessions at 0.3 MB each, and drops whose was used longest ago (gradio/state_holder.py).
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from gradio.server_messages import ProcessCompletedMessage
from gradio.state_holder import StateHolder

from ideogram_q8.ui.doors.limits import address_of, visitor

WAIT_SECONDS = 1800.0
FEW = 3
"""Waiting jobs of one visitor where the app has several."""
_QUICK, _QUICK_OF_ONE = 64, 16
"""Waiting calls of endpoints that need no device: of all visitors, and of one."""
MOST_SESSIONS, SESSIONS_OF_ONE = 1000, 256
"""A session holds 0.3 MB: all of them 300 MB, those of one address 80 MB."""
IDLE_SECONDS = 1800.0
"""A job of a program, which has no page, waits no longer."""
Pushed = tuple[bool, Any, str]


class Line:
    """What takes the place of `push` of a page's queue.

    Args:
        queue: Gradio's, whose limit is off.
        device: the name of the line before the device.
        most: jobs that may wait there.
        of_one: those of one visitor: an account, or an address where there are none.
    """

    def __init__(self, queue: Any, device: str, most: int, of_one: int) -> None:
        self._queue, self._device, self._most, self._of_one = queue, device, most, of_one
        self._push = queue.push
        queue.push = self.push

    async def push(self, body: Any, request: Any, username: str | None) -> Pushed:
        """Puts an event in the line; what is refused hears why, with status 503."""
        self._expire()
        fn = None if body.fn_index is None else self._queue.blocks.fns.get(body.fn_index)
        if fn is None:
            return False, "there is no such endpoint", "error"
        problem = self._full(fn.concurrency_id == self._device, body.session_hash, username or address_of(request))
        if problem is not None:
            return False, problem, "queue_full"
        found: Pushed = await self._push(body, request, username)
        return found

    def _waiting(self) -> list[Any]:
        return [event for line in self._queue.event_queue_per_concurrency_id.values() for event in list(line.queue)]

    def _full(self, on_device: bool, session: str | None, visitor: str) -> str | None:
        """Why another event may not wait; None where it may."""
        waiting = [event for event in self._waiting() if (event.concurrency_id == self._device) is on_device]
        own = sum((event.username or address_of(event.request)) == visitor for event in waiting)
        if not on_device:
            busy = len(waiting) >= _QUICK or own >= _QUICK_OF_ONE
            return "too many requests wait; come back in a moment" if busy else None
        if session is not None and any(event.session_hash == session for event in waiting):
            return "something of yours waits already; wait for it, or cancel it"
        if len(waiting) >= self._most:
            return f"the queue is full: {len(waiting)} wait; come back later"
        if own >= self._of_one:
            return f"{own} of yours wait already, which is as many as one visitor may have; wait for one of them"
        return None

    def _expire(self) -> None:
        """Drops what has waited for too long, and tells whoever listens."""
        past = time.monotonic() - WAIT_SECONDS
        for line in self._queue.event_queue_per_concurrency_id.values():
            for event in [event for event in list(line.queue) if event.enqueue_time < past]:
                line.queue.remove(event)
                output = {"error": "this waited for half an hour without its turn; start it again", "visible": True}
                self._queue.send_message(event, ProcessCompletedMessage(output=output, success=False))


class Sessions(StateHolder):
    """Gradio's sessions, of which each address has at most `of_one`: its own oldest makes room for its next, and nobody else's.

    A session ends IDLE_SECONDS after its last request, unless a page of it is open: Gradio keeps each until the server ends.
    """

    def __init__(self, of_one: int = SESSIONS_OF_ONE) -> None:
        super().__init__()
        self._of_one = of_one
        self._of: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()
        self._pages: Counter[str] = Counter()

    def __getitem__(self, session_id: str) -> Any:
        known = session_id in self.session_data
        found = super().__getitem__(session_id)
        if not known:
            self._note(visitor.get(), session_id)
        return found

    def _note(self, address: str, session: str) -> None:
        with self.lock:
            own = self._of.setdefault(address, OrderedDict())
            own[session] = None
            self._of.move_to_end(address)
            ended = [own.popitem(last=False)[0] for _ in range(len(own) - self._of_one)]
            while len(self._of) > self.capacity:
                self._of.popitem(last=False)
        self._end(ended)

    @contextmanager
    def page(self, session: str) -> Iterator[None]:
        """A page of the session is open for as long as the context is."""
        with self.lock:
            self._pages[session] += 1
        try:
            yield
        finally:
            with self.lock:
                self._pages[session] -= 1
                self._pages += Counter()  # without those that have none
            if session in self.session_data:
                self.time_last_used[session] = datetime.now()

    def expire(self) -> None:
        """Ends the sessions that nobody uses any more."""
        past = datetime.now() - timedelta(seconds=IDLE_SECONDS)
        with self.lock:
            ended = [each for each, used in list(self.time_last_used.items()) if used < past and not self._pages[each]]
            for address, own in list(self._of.items()):
                for each in ended:
                    own.pop(each, None)
                if not own:
                    del self._of[address]
        self._end(ended)

    def _end(self, sessions: Iterable[str]) -> None:
        for each in sessions:
            self.session_data.pop(each, None)
            self.time_last_used.pop(each, None)
