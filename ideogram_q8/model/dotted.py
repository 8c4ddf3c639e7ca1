"""Functions that rows of registries name by where they are, so that a row needs none of what its function imports."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def function_at(package: str, place: str) -> Callable[..., Any]:
    """The function of a row: "metrics:ssim" in package "ideogram_q8.measure" is `ssim` of `ideogram_q8.measure.metrics`.

    Its module is imported when this is called. A place that does not exist is a defect and raises what importing it raises.
    """
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{package}.{module}"), name)
    return found
