"""Imported once by the server that the processes of a rehearsal are forked from."""

from __future__ import annotations

from ideogram_q8.bench.card.child import preload

preload()
