"""Results as tables, in Markdown that a terminal shows straight as well. Every row of a result is a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ideogram_q8.bench.machine import Clocks, Machine, Peaks
from ideogram_q8.bench.projection import ProjectedRow, Projection
from ideogram_q8.bench.results import UNQUANTIZED, DenoiseResult, DenoiseRow, LinearResult, LinearRow, LoadResult, Result
from ideogram_q8.bench.timing import Timing
from ideogram_q8.formats.quantities import gigabytes, percent, short_time

_NONE = "–"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its columns aligned."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    shown.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(line.rstrip() for line in shown)


def table(result: Result) -> str:
    """All that is worth reading of a result: where it was taken, and its rows."""
    match result:
        case LinearResult():
            body = [linear_rows(result)]
        case DenoiseResult():
            body = [denoise_rows(result), f"memory: {result.meter}", *part_rows(result)]
        case LoadResult():
            body = [load_rows(result)]
    peaks = [] if isinstance(result, LoadResult) else [peak_line(result.peaks)]
    clocks = [] if isinstance(result, LoadResult) or not result.clocks else [clock_line(result.clocks)]
    stopped = ["stopped: what is missing was not measured"] if result.interrupted else []
    return "\n\n".join(["\n".join([setting_line(result), machine_line(result.machine), *peaks, *clocks]), *body, *stopped])


def setting_line(result: Result) -> str:
    """What was measured."""
    match result:
        case LinearResult(settings=linear):
            return f"products of Ideogram 4 in {linear.dtype}, {linear.rounds} rounds in turn"
        case DenoiseResult(settings=paint):
            return (
                f"a step (both branches) of {paint.layers} of 34 layers, {paint.width}x{paint.height}, {paint.text_tokens} text tokens, "
                f"{paint.dtype}, {paint.rounds} rounds of {paint.steps} in turn"
                + ("" if paint.memory_cap is None else f", at most {gigabytes(paint.memory_cap)}")
            )
        case LoadResult(settings=loading):
            what = f"a random checkpoint of {loading.layers} layers" if loading.layers else "the places named"
            return f"loading both transformers of {what} in {loading.dtype}, {loading.rounds} rounds"


def machine_line(machine: Machine) -> str:
    """On what."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    kind = f"compute capability {machine.capability}" if machine.capability else ", ".join(machine.instructions)
    return (
        f"{machine.name} ({kind}), {machine.threads} threads, {gigabytes(machine.memory_bytes)}, {machine.system}; {versions}"
    )


def peak_line(peaks: Peaks) -> str:
    """What the device did at most."""
    shown = [f"{peaks.dtype} {_tera(peaks.floating.rate)} ({peaks.floating.by})"]
    shown.append(
        f"int8 {_tera(peaks.int8.rate)} ({peaks.int8.by})" if peaks.int8.rate else f"int8 not measured: {peaks.int8.by}"
    )
    return f"at most: {', '.join(shown)}, memory {gigabytes(peaks.bytes_rate)}/s"


def clock_line(clocks: Sequence[Clocks]) -> str:
    """While it was measured."""
    graphics, watts = [each.graphics for each in clocks], [each.watts for each in clocks]
    slowed = sorted({each.slowed_by for each in clocks} - {""})
    return (
        f"clock {min(graphics)} to {max(graphics)} of {clocks[0].graphics_most} MHz, {min(watts):.0f} to {max(watts):.0f} of "
        f"{clocks[0].watts_most:.0f} W, up to {max(each.celsius for each in clocks)} degrees"
        + (f"; slowed by {', '.join(slowed)}" if slowed else "")
    )


def linear_rows(result: LinearResult) -> str:
    """A line for each way to compute each product."""
    head = ("product", "shape, rows", "way", "time (fastest to slowest)", "TOP/s", "of the peak", "error", "note")
    return grid(head, (_linear_cells(row, result.peaks) for row in result.rows))


def _linear_cells(row: LinearRow, peaks: Peaks) -> tuple[str, ...]:
    rate = None if row.timing is None else row.operations / row.timing.median
    peak = peaks.of(row.arithmetic)
    return (
        row.kind,
        f"{row.outputs}x{row.inputs}, {row.rows}",
        row.path,
        _time(row.timing),
        _NONE if rate is None else f"{rate / 1e12:.3g}",
        _NONE if rate is None or peak is None else share(rate / peak),
        _NONE if row.error is None else percent(row.error, ".2g"),
        row.note,
    )


def denoise_rows(result: DenoiseResult) -> str:
    """A line for each variant."""
    head = (
        "variant",
        "time per step (fastest to slowest)",
        f"speed to {result.settings.dtype}",
        "to the fastest",
        "peak memory",
        "predicted",
        "error",
        "note",
    )
    medians = {row.variant: row.timing.median for row in result.rows if row.timing is not None}
    own, least = medians.get(UNQUANTIZED), min(medians.values(), default=None)
    return grid(head, (_denoise_cells(row, own, least) for row in result.rows))


def _denoise_cells(row: DenoiseRow, unquantized: float | None, least: float | None) -> tuple[str, ...]:
    median = None if row.timing is None else row.timing.median
    return (
        f"peer: {row.label}" if row.peer else row.label,
        _time(row.timing),
        _ratio(unquantized, median),
        _ratio(least, median),
        _NONE if row.peak_bytes is None else gigabytes(row.peak_bytes, ".2f"),
        _NONE if row.predicted_bytes is None else gigabytes(row.predicted_bytes, ".2f"),
        _NONE if row.error is None else percent(row.error, ".2g"),
        row.note,
    )


def part_rows(result: DenoiseResult) -> list[str]:
    """What a step is made of, where it was taken apart: milliseconds of each kind of work, and the share of the peak."""
    rows = [row for row in result.rows if row.parts and row.timing is not None]
    if not rows:
        return []
    kinds = [part.kind for part in rows[0].parts]
    return [grid(("each by itself", *kinds, "the rest of a step"), (_part_cells(row, result.peaks) for row in rows))]


def _part_cells(row: DenoiseRow, peaks: Peaks) -> tuple[str, ...]:
    cells = []
    for part in row.parts:
        peak = peaks.of(part.arithmetic)
        reached = "" if peak is None else f", {share(part.operations / part.seconds / peak)}"
        cells.append(f"{1e3 * part.seconds:.3g} ms{reached}")
    assert row.timing is not None
    rest = row.timing.median - sum(part.seconds for part in row.parts)
    return (row.label, *cells, f"{1e3 * rest:.3g} ms")


def load_rows(result: LoadResult) -> str:
    """A line for each variant, and what is held after each round of switching."""
    head = ("variant", "files", "loaded", "first read", "read before", "most host memory", "switching to it", "note")
    cells = (
        (
            row.variant if row.cold is not None else row.place,
            gigabytes(row.file_bytes, ".2f"),
            gigabytes(row.device_bytes, ".2f"),
            _time(row.cold),
            _time(row.warm),
            _NONE if row.peak_bytes is None else gigabytes(row.peak_bytes, ".2f"),
            _time(row.switch),
            row.note,
        )
        for row in result.rows
    )
    held = ", ".join(f"{bytes_ / 1e9:.2f}" for bytes_ in result.held_bytes)
    return grid(head, cells) + (f"\n\nheld in host memory after each round of switching: {held} GB" if held else "")


def projection_table(found: Projection) -> str:
    """A line for each row, the efficiencies that were carried over, and the assumptions."""
    picture = [f"{found.picture_steps} steps"] if found.picture_steps else []
    head = ("", f"measured on {found.measured_on}", f"on {found.card}", *picture, "at its public rates", "shares of the peak")
    rows = (_projected_cells(row, found.picture_steps) for row in found.rows)
    return "\n".join([grid(head, rows), "", *_passes(found), "assumed:", *(f"- {text}" for text in found.assumptions)])


def _passes(found: Projection) -> list[str]:
    """A table of what lies between the W8A8 products of a step; nothing where products alone were measured."""
    if not found.passes:
        return []
    head = ("between the products of a W8A8 step, counted", "read and written", "launches", f"on {found.card}")
    rows = ((each.name, gigabytes(each.moved), f"{each.launches:,}", short_time(each.seconds)) for each in found.passes)
    return [grid(head, rows), ""]


def _projected_cells(row: ProjectedRow, steps: int) -> tuple[str, ...]:
    shares = ", ".join(f"{each.kind} {share(each.efficiency)}" for each in row.shares if each.efficiency is not None)
    picture = [f"{steps * row.projected:.3g} s"] if steps else []
    return (row.name, short_time(row.measured), short_time(row.projected), *picture, short_time(row.floor), shares)


def share(reached: float) -> str:
    """A part of a peak in percent; no device exceeds its peak, so that more than all of it says how the peak was measured."""
    shown = percent(reached)
    return shown if reached <= 1.0 else f"{shown}: the peak was measured under load"


def _time(timing: Timing | None) -> str:
    if timing is None:
        return _NONE
    return f"{short_time(timing.median)} ({short_time(timing.fastest)} to {short_time(timing.slowest)})"


def _ratio(reference: float | None, median: float | None) -> str:
    return _NONE if reference is None or median is None else f"{reference / median:.2f}x"


def _tera(rate: float | None) -> str:
    return _NONE if rate is None else f"{rate / 1e12:.3g} TOP/s"
