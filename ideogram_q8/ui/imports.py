"""What takes seconds to import: Gradio in half of its time, torch after the page has gone out."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import threading
import types
from unittest import mock

_LOCK = threading.RLock()
_KNOWN = frozenset({"__class__", "__dict__", "__file__", "__loader__", "__name__", "__package__", "__spec__"})
"""Attributes that the import system and whoever looks through `sys.modules` ask for; they are there from the start."""

_COMMAND_LINES = {"gradio.cli": "deploy", "httpx._main": "main"}
"""Modules, and the one name that their packages' __init__.py takes from each."""


def import_gradio() -> None:
    """To be called before anything else imports Gradio, while no other thread asks `inspect` for a file.

    Gradio 6 writes an editor's stub (.pyi) beside the source of each of its components whenever it is imported, or finds that it is
    there already, which takes over a second. It leaves out a class whose source file cannot be told, so none can while it is imported.
    The command lines that it and httpx bring, and pandas, for tables that the page has not, take most of a second more.
    """
    postpone("pandas")
    absent = {name: types.ModuleType(name) for name in _COMMAND_LINES if name not in sys.modules}
    for name, module in absent.items():
        setattr(module, _COMMAND_LINES[name], lambda: None)
        sys.modules[name] = module
    try:
        with mock.patch.object(inspect, "getfile", side_effect=OSError):
            import gradio  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]  # whoever imports it from now on gets the real one


class _Postponed(types.ModuleType):
    """A module that runs its code when it is first asked for one of its names; other threads wait meanwhile.

    `importlib.util.LazyLoader` does the same, before Python 3.12 without the waiting.
    """

    def __getattribute__(self, name: str) -> object:
        look = super().__getattribute__
        if name in _KNOWN:
            return look(name)
        with _LOCK:
            state = look("__dict__")
            if type(self) is _Postponed and "_running" not in state:
                state["_running"] = True  # its own code may ask for what it has defined so far
                try:
                    state["__spec__"].loader.exec_module(self)
                    self.__class__ = types.ModuleType  # type: ignore[assignment]
                finally:
                    del state["_running"]
            return look(name)


def postpone(name: str) -> None:
    """Lets `import name` take no time, here and in all modules to come; one that is imported or not installed stays as it is."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Postponed
    sys.modules[name] = module
