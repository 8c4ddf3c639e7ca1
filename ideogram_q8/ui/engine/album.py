"""What a visitor made: to look through, to mark, to delete and to have back. Knows nothing of Gradio."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from ideogram_q8.errors import RequestError
from ideogram_q8.ui.engine.bin import Bin
from ideogram_q8.ui.engine.copies import Copies
from ideogram_q8.ui.engine.library import Entry, Library

_REMEMBERED_OWNERS = 256


class Album:
    """The entries of a library whose pictures are in `outputs`. Each call names the owner, and touches nothing of others.

    `copies` are what else holds the pictures, where anything does: that goes with them.
    """

    def __init__(self, library: Library, outputs: Path, copies: Copies | None = None) -> None:
        self._library, self._outputs, self._bin, self._copies = library, outputs, Bin(outputs), copies
        self._deleted: OrderedDict[str, Entry] = OrderedDict()

    def pictures(self, owner: str, search: str = "", *, favourites: bool = False, limit: int = -1) -> list[Entry]:
        """Pictures as `Library.pictures` gives them, only those whose files are still there."""
        asked = limit
        while True:
            found = self._library.pictures(owner, search, favourites=favourites, limit=asked)
            there = [entry for entry in found if (self._outputs / entry.file).is_file()]
            if limit < 0 or len(there) >= limit or len(found) < asked:
                return there if limit < 0 else there[:limit]
            asked *= 2  # some are gone: look further back

    def find(self, owner: str, picture: int) -> Entry:
        """Raises RequestError: the owner has no such picture."""
        found = self._library.find(owner, picture)
        if found is None:
            raise RequestError(f"there is no picture {picture} in your history; look again")
        return found

    def set_favourite(self, owner: str, picture: int, favourite: bool) -> None:
        """Raises RequestError: the owner has no such picture."""
        self._library.set_favourite(owner, self.find(owner, picture).id, favourite)

    def delete(self, owner: str, picture: int) -> None:
        """`undo` gives the last one back, without its copies. Raises RequestError: the owner has no such picture."""
        entry = self.find(owner, picture)
        self._library.forget(owner, entry.id)
        self._bin.put(entry.file)
        if self._copies is not None:
            self._copies.remove([entry.file])
        self._deleted[owner] = entry
        self._deleted.move_to_end(owner)
        while len(self._deleted) > _REMEMBERED_OWNERS:
            self._deleted.popitem(last=False)

    def undo(self, owner: str) -> Entry:
        """Brings back what the owner deleted last. Raises RequestError: nothing was deleted, or it has gone for good."""
        entry = self._deleted.pop(owner, None)
        if entry is None:
            raise RequestError("nothing of yours was deleted that could be had back")
        self._bin.take_back(entry.file)
        self._library.remember(owner, entry)
        return entry
