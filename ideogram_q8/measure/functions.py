"""The functions that measure pictures, found from the rows of `formats.metrics.METRICS`. Imports what measures when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ideogram_q8.formats.metrics import Metric
from ideogram_q8.model.dotted import function_at

Function = Callable[..., float | Mapping[str, float | None] | None]


def function_of(metric: Metric, device: str = "cpu") -> Function:
    """What measures a metric, called as `Metric.takes` says; `device` runs its network, if it has one.

    Raises:
        RequestError: a tool that it needs is not here. The message has the remedy.
    """
    assert metric.place is not None, f"{metric.name} is measured while painting"
    found = function_at("ideogram_q8.measure", metric.place)
    function: Function = found(device) if metric.made else found
    return function


def by_metric(metric: Metric, value: float | Mapping[str, float | None] | None) -> Mapping[str, float | None]:
    """What a function gave, by metric: it may measure several at once."""
    return value if isinstance(value, Mapping) else {metric.name: value}
