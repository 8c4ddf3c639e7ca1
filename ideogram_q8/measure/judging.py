"""What is measured of a finished picture: its likeness to the reference's, its text, its worth by itself.

Which metrics there are and where their functions lie: `formats.metrics.METRICS`. Tools are made once. One that is missing does not stop
a run: its metrics are "not measured", with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from ideogram_q8.captions.suite import Case
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.metrics import METRICS, Metric
from ideogram_q8.measure.functions import Function, by_metric, function_of
from ideogram_q8.measure.latents import Errors
from ideogram_q8.measure.metrics import finite

Values = dict[str, float | None]
"""By metric; None where it does not apply to the caption."""


@dataclass
class Judges:
    """The tools that are there, by their metrics' `place`; `missing` has the reason why a metric is not measured."""

    tools: dict[str, Function] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, device: str = "cpu") -> Judges:
        """All tools that this machine has; `device` runs the scorers."""
        judges = cls()
        for metrics in _by_place():
            if metrics[0].made:
                judges._make(metrics, device)
        return judges

    def _make(self, metrics: Sequence[Metric], device: str) -> None:
        try:
            self.tools[str(metrics[0].place)] = function_of(metrics[0], device)
        except RequestError as error:
            self.missing |= {metric.name: str(error) for metric in metrics}

    def values(self, picture: Image.Image, case: Case, reference: Image.Image | None, errors: Errors | None) -> Values:
        """Everything that can be said of a picture; `reference` is None for the reference itself."""
        found: Values = {}
        for metrics in _by_place():
            first = metrics[0]
            function = self.tools.get(str(first.place)) if first.made else function_of(first)
            if function is None or (first.fidelity and reference is None):
                continue
            inputs = {"pictures": (reference, picture), "caption": (picture, case), "latents": (errors,)}[first.takes]
            found |= by_metric(first, None if inputs[0] is None else function(*inputs))
        return {name: None if value is None else float(f"{finite(value, picture):.6g}") for name, value in found.items()}


def _by_place() -> Iterator[Sequence[Metric]]:
    """Metrics of pictures, those together that one function measures."""
    places: dict[str, list[Metric]] = {}
    for metric in METRICS.values():
        if metric.place is not None:
            places.setdefault(metric.place, []).append(metric)
    yield from places.values()
