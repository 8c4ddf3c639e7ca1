"""The quantities that a report may hold, a row each: what they are, where they are measured, in which tables they stand. No torch.

Judging, the Compare tab, the tables and the cards go through `METRICS` in its order: a metric is added by a row here and a function
in `ideogram_q8.measure`, and nowhere else (docs/adding.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Table = Literal["report", "terminal", "card", "family", "compare", "picture"]
"""`evaluate report`'s table, the one in a terminal, a card's of all builds, a repository's of its folders, the Compare tab's, and the
lines below a picture there."""
Input = Literal["pictures", "caption", "latents"]
"""What a metric's function is called with: (reference's picture, picture), (picture, its case), or the errors of the latents."""


@dataclass(frozen=True)
class TableColumn:
    """How a metric stands in a table.

    Attributes:
        head: its title there; `{reference}`, `{machine}` and `{of_gpu}` stand for the reference's title, what times are of, and
            " of the GPU" where memory is that.
        digits: decimals; None for as many as count for the unit, with the unit.
        factor: what a value is multiplied by.
        ending: what follows the number.
        spread: whether its interval or quartiles follow in brackets.
    """

    head: str
    digits: int | None = None
    factor: float = 1.0
    ending: str = ""
    spread: bool = True

    def text(self, value: float, span: tuple[float, float] | None = None) -> str:
        """`45.2 (44.8 to 45.6)`, or without the brackets."""
        ends = "" if span is None or not self.spread else f" ({self._number(span[0])} to {self._number(span[1])})"
        return f"{self._number(value)}{self.ending}{ends}"

    def _number(self, value: float) -> str:
        return f"{self.factor * value:.{4 if self.digits is None else self.digits}f}"


@dataclass(frozen=True)
class Metric:
    """A quantity a report may hold.

    Attributes:
        name, title, unit: its key, its title on a card, its unit ("1" = dimensionless).
        margin: the smallest difference of interest, in its unit; None for what captions do not have one by one.
        largest: the largest difference that a caption can have, where there is a bound.
        fidelity: likeness to the reference's picture, which the reference itself does not have.
        place: where its function is, as "metrics:ssim" in `ideogram_q8.measure`; None for times, memory and energy. It gives a value,
            None where it does not apply; where several metrics name one place, the values by metric.
        takes: what the function is called with.
        made: whether `place` is called with a device first and gives the function, or raises RequestError where a tool is missing.
        absent: the reason for "not measured" where no caption has a value.
        columns: the tables that it stands in, and how.
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    margin: float | None = None
    largest: float | None = None
    fidelity: bool = False
    place: str | None = None
    takes: Input = "pictures"
    made: bool = False
    absent: str = "it applies to no caption"
    columns: Mapping[Table, TableColumn] = field(default_factory=dict)


_READING = "words.ocr:judge"
_NO_TEXT, _NO_LATENTS = "no caption asks for a text that the OCR's alphabet has", "the latents of no caption were kept"
_WORDS = TableColumn("words read exactly", 1, 100, " %")

METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            *("psnr", "PSNR to the reference, mean over pictures", "dB", "higher", 0.5),
            fidelity=True,
            place="metrics:psnr",
            columns={
                "report": TableColumn("PSNR to {reference}, dB", 1),
                "terminal": TableColumn("PSNR dB", 1),
                "card": TableColumn("PSNR to {reference}, dB"),
                "family": TableColumn("PSNR to the source"),
                "compare": TableColumn("PSNR", 2, ending=" dB"),
                "picture": TableColumn("PSNR", 1, ending=" dB"),
            },
        ),
        Metric(
            *("ssim", "SSIM to the reference, mean over pictures", "1", "higher", 0.002),
            fidelity=True,
            place="metrics:ssim",
            columns={
                "report": TableColumn("SSIM to {reference}", 4),
                "compare": TableColumn("SSIM", 4),
                "picture": TableColumn("SSIM", 4),
            },
        ),
        Metric(
            *("lpips", "LPIPS to the reference, mean over pictures", "1", "lower", 0.005),
            fidelity=True,
            place="lpips:judge",
            made=True,
            columns={
                "report": TableColumn("LPIPS to {reference}, in thousandths", 3, 1000),
                "card": TableColumn("LPIPS to it, in thousandths", 3, 1000),
                "compare": TableColumn("LPIPS", 4),
                "picture": TableColumn("LPIPS", 4),
            },
        ),
        Metric(
            *("latent_mse", "Squared error of the final latents, mean of decibels", "dB", "lower", 0.5),
            fidelity=True,
            place="latents:final_decibels",
            takes="latents",
            absent=_NO_LATENTS,
        ),
        Metric(
            *("velocity_snr", "Signal to noise of the velocities, mean over steps", "dB", "higher", 0.5),
            fidelity=True,
            place="latents:mean_snr",
            takes="latents",
            absent=_NO_LATENTS,
            columns={"report": TableColumn("velocity SNR, dB", 1), "terminal": TableColumn("velocity SNR dB", 1)},
        ),
        Metric(
            *("ocr_exact_match", "Words read exactly by OCR, share", "1", "higher", 0.02, 1.0),
            place=_READING,
            takes="caption",
            made=True,
            absent=_NO_TEXT,
            columns={"report": _WORDS, "terminal": TableColumn("words read", 1, 100, " %"), "card": _WORDS},
        ),
        Metric(
            *("ocr_match_any_case", "Words read by OCR whatever their case, share", "1", "higher", 0.02, 1.0),
            place=_READING,
            takes="caption",
            made=True,
            absent=_NO_TEXT,
        ),
        Metric(
            *("ocr_ned", "Normalised edit distance of words read by OCR", "1", "lower", 0.01, 1.0),
            place=_READING,
            takes="caption",
            made=True,
            absent=_NO_TEXT,
        ),
        Metric("clip_score", "CLIP score", "points", "higher", 0.3, place="words.scores:clip", takes="caption", made=True),
        Metric("pick_score", "PickScore", "points", "higher", 0.1, place="words.scores:pick", takes="caption", made=True),
        Metric("hps_v2", "HPSv2 score", "1", "higher", 0.002, place="words.scores:hps", takes="caption", made=True),
        Metric(
            *("seconds_per_step", "Time per denoising step, median", "s", "lower"),
            columns={
                "report": TableColumn("time per step", 0, 1000, " ms", spread=False),
                "terminal": TableColumn("ms/step", 0, 1000, " ms", spread=False),
                "card": TableColumn("s per step on {machine}"),
                "family": TableColumn("time per step"),
            },
        ),
        Metric(
            *("seconds_per_picture", "Time per picture, median", "s", "lower"),
            columns={"card": TableColumn("s per picture on {machine}")},
        ),
        Metric("load_seconds", "Time to load, until a caption is read", "s", "lower"),
        Metric(
            *("peak_memory", "Peak memory while generating", "bytes", "lower"),
            columns={
                "terminal": TableColumn("peak MB", 0, 1e-6, spread=False),
                "card": TableColumn("peak memory{of_gpu}"),
                "family": TableColumn("peak memory"),
            },
        ),
        Metric("peak_memory_text", "Peak memory while the caption is read", "bytes", "lower"),
        Metric("peak_memory_denoise", "Peak memory while denoising", "bytes", "lower"),
        Metric("peak_memory_decode", "Peak memory while the picture is decoded", "bytes", "lower"),
        Metric("energy", "Energy per picture, mean", "J", "lower"),
    )
}
"""CLIP score and PickScore are cosines times 100, as they are published."""


def in_table(table: Table) -> list[tuple[Metric, TableColumn]]:
    """The metrics that stand in a table, in the order of METRICS."""
    return [(metric, metric.columns[table]) for metric in METRICS.values() if table in metric.columns]


def per_caption() -> list[Metric]:
    """The metrics that every caption has a value of: those with a margin."""
    return [metric for metric in METRICS.values() if metric.margin is not None]
