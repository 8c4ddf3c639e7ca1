"""The pieces of HTML on the page, as pure functions. Everything that is not written here is escaped."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ideogram_q8.builds.variants import Variant
from ideogram_q8.formats.metrics import TableColumn, in_table
from ideogram_q8.formats.quantities import byte_size, percent, seconds
from ideogram_q8.measure.preference import Standing
from ideogram_q8.model.architecture import Traits
from ideogram_q8.ui.engine.comparison import Column
from ideogram_q8.ui.engine.events import Building, Downloading, Event, Loading, Painting, Picture, Work
from ideogram_q8.ui.engine.library import Entry
from ideogram_q8.ui.parts.verdicts import verdicts

if TYPE_CHECKING:
    from ideogram_q8.ui.engine.fitting import Fit
    from ideogram_q8.ui.engine.measured import VariantFigures


_TABLE = '<div class="q8-scroll" tabindex="0"><table class="q8-table">'
"""Wider than a telephone: it scrolls, with keys too."""


_DEMO = (
    '<details id="q8-demo"><summary class="q8-chip q8-demo">demo model, not Ideogram 4</summary><p>It knows posters with one shape '
    "(house, star, crown, …) and one short word, and nothing else: a cat becomes mud. What it says about builds is its own answer. "
    "Your own Ideogram 4: accept its licence on the Hub, then <code>hf download ideogram-ai/ideogram-4-fp8 --local-dir "
    "ideogram-4-fp8</code> and <code>python app.py --source ideogram-4-fp8 --device cuda</code></p></details>"
)


def title(traits: Traits, runs: str, *, demo: bool = False) -> str:
    """The head of the page; `runs` says where the model runs and in which precision, `demo` that it is the embedded model."""
    return (
        '<div class="q8-title"><h1>Ideogram Q8</h1>'
        "<p>Make a picture with any build of the model, or compare up to four on the same seed.</p>"
        f'<span class="q8-chip">{html.escape(traits.name)} · {html.escape(runs)}</span>{_DEMO if demo else ""}</div>'
    )


PENDING, UNKNOWN = "does it fit? …", "does it fit? unknown yet"
"""In place of a fit: it is being looked at; or of a model that is not known before it is here."""


def card(
    variant: Variant, fit: Fit | str = PENDING, figures: VariantFigures | None = None, downloading: Downloading | None = None
) -> str:
    """The lines of a variant's radio card: what it is, whether it is here, whether it fits, what was measured of it."""
    lines = [variant.title, variant.format, *_state(variant, downloading)]
    if variant.problem:
        return "\n".join(lines)
    lines.append(fit if isinstance(fit, str) else f"needs {byte_size(fit.needed)} · {fit}")
    if figures is not None:
        lines += _measured(figures)
    return "\n".join(lines)


def _state(variant: Variant, downloading: Downloading | None) -> Iterator[str]:
    """Whether it is here, and what its size is, or that of what is missing."""
    size = byte_size(variant.size_bytes)
    if variant.problem:
        yield f"not downloaded · {variant.problem}"
        return
    if downloading is not None:
        yield f"downloading {percent(downloading.fraction)} of {byte_size(downloading.total)}"
        yield " · ".join(_pace(downloading))
        return
    if variant.location is None:
        yield f"≈ {size} · not built yet" if variant.place is None else _not_downloaded(variant, size)
    else:
        yield size if variant.place is None else f"{size} · downloaded"
    if variant.rest_bytes:
        yield f"+ {byte_size(variant.rest_bytes)} of its source"


def _not_downloaded(variant: Variant, size: str) -> str:
    here = variant.size_bytes - variant.missing_bytes
    return f"{size} · {100 * here // variant.size_bytes} % downloaded" if here > 0 else f"{size} · not downloaded"


def _pace(event: Downloading) -> Iterator[str]:
    if event.rate > 0:
        yield f"{byte_size(int(event.rate))}/s"
    if event.seconds_left is not None:
        yield f"{seconds(event.seconds_left, digits=0)} left"


def _measured(figures: VariantFigures) -> Iterator[str]:
    if figures.psnr is not None:
        yield f"{figures.psnr:.1f} dB to {figures.reference}"
    if figures.seconds_per_step is not None:
        yield f"{seconds(figures.seconds_per_step)} per step on {figures.machine}"


def waiting(ahead: int) -> str:
    """The state before a job's turn."""
    return panel("running", f"Waiting: {ahead} before you", notes=["One at a time: there is one device."])


def panel(state: str, head: str, right: str = "", *, fraction: float | None = None, notes: Sequence[str] = ()) -> str:
    """A box with a headline, an optional bar (0..1) and a line of notes; `state` is idle, running, cancelled or failed."""
    bar = "" if fraction is None else f'<div class="q8-bar"><i style="width:{100 * fraction:.1f}%"></i></div>'
    spans = "".join(f"<span>{html.escape(note)}</span>" for note in notes)
    line = f'<div class="q8-note">{spans}</div>' if spans or bar else ""
    return (
        f'<div class="q8-panel" data-state="{state}" role="status"><div class="q8-head">{html.escape(head)}'
        f"<span>{html.escape(right)}</span></div>{bar}{line}</div>"
    )


def listed(state: str, head: str, lines: Sequence[str]) -> str:
    """A box with a headline and a list."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f'<div class="q8-panel" data-state="{state}" role="status"><div class="q8-head">{html.escape(head)}<span></span></div>'
        f'<ul class="q8-list">{items}</ul></div>'
    )


def progress(event: Work, label: str) -> str:
    """What is going on; `label` names the variant for people."""
    if isinstance(event, Building):
        share = percent(event.fraction)
        return panel("running", f"Building {label}", share, fraction=event.fraction, notes=["once; kept in your cache folder"])
    if isinstance(event, Downloading):
        share, sizes = percent(event.fraction), f"{byte_size(event.here)} of {byte_size(event.total)}"
        return panel("running", f"Downloading {label}", share, fraction=event.fraction, notes=[sizes, *_pace(event)])
    if isinstance(event, Loading):
        return panel("running", f"Loading {label}", fraction=0.0, notes=["reading weights and the caption"])
    return panel(
        "running",
        f"Painting with {label}",
        f"step {event.index} of {event.total}",
        fraction=event.index / event.total,
        notes=[f"{seconds(event.seconds_per_step)} per step", f"{seconds(event.seconds_left, digits=1)} left"],
    )


def where(event: Event) -> str:
    """How far the work is, for the note that cancelling leaves."""
    if isinstance(event, Painting):
        return f"at step {event.index} of {event.total}"
    if isinstance(event, Downloading):
        return f"at {percent(event.fraction)} of the download, which goes on from there"
    return "while building the variant" if isinstance(event, Building) else "while loading"


def cancelled(note: str, kept: int = 0) -> str:
    """The state after cancelling; `note` says how far the work was, `kept` how many pictures were finished before."""
    text = f"Cancelled {note}".rstrip()
    saved = "No picture was saved." if kept == 0 else f"{kept} finished before {'is' if kept == 1 else 'are'} saved."
    return panel("cancelled", text, notes=[f"{saved} Change what you like and start again."])


def finished(picture: Picture, label: str) -> str:
    """The result of the Generate tab: times, memory and seed."""
    facts = {
        "Total time": seconds(picture.total_seconds),
        "Time per step": seconds(picture.seconds_per_step),
        "Peak memory": byte_size(picture.peak_bytes),
        "Seed": str(picture.request.seed),
    }
    tiles = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts.items())
    size = f"{picture.request.width} × {picture.request.height} px"
    return (
        f'<div class="q8-panel" data-state="done" role="status"><div class="q8-head">Painted with {html.escape(label)}'
        f'<span>{html.escape(size)}</span></div><dl class="q8-tiles">{tiles}</dl></div>'
    )


def compared(columns: Sequence[Column]) -> str:
    """The state of the Compare tab when all pictures are there."""
    cells = [cell for column in columns for cell in column.cells]
    reused = sum(cell.picture.reused for cell in cells)
    request = cells[0].picture.request
    right = f"{reused} of {len(cells)} pictures reused from before" if reused else ""
    notes = [f"seed {request.seed}", request.preset, f"{request.width} × {request.height} px"]
    return panel("done", "Compared", right, notes=notes)


def comparison(columns: Sequence[Column], missing: Mapping[str, str]) -> str:
    """The table of the Compare tab; `missing` is what is not measured, and the remedy."""
    several = len(columns[0].cells) > 1
    heads = "".join(f"<th>{html.escape(column.title)}</th>" for column in columns)
    rows = [*_metric_rows(columns), *(_row(title, key, [of(column) for column in columns]) for title, key, of in _ROWS)]
    texts = "" if several else _text_rows(columns)
    notes = " ".join(f"{html.escape(what)}: not measured ({html.escape(remedy)})." for what, remedy in missing.items())
    means = "Likeness is the mean over seeds, times that of the last one. " if several else ""
    return (
        f'<div class="q8-panel" data-state="done">{_TABLE}<thead><tr><th></th>{heads}</tr>'
        f"</thead><tbody>{''.join(rows)}{texts}</tbody></table></div>"
        f'<ul class="q8-list q8-verdict">{"".join(f"<li>{html.escape(said)}</li>" for said in verdicts(columns))}</ul>'
        f'<p class="q8-small">{_likeness()} say how like {html.escape(columns[0].title)} a '
        f"picture is, not which one looks better. {means}Time per step is the median; peak memory is that of the whole process. "
        f"{notes}</p></div>"
    )


def _row(title: str, key: str, cells: Sequence[str]) -> str:
    body = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr data-metric="{key}"><th>{title}</th>{body}</tr>'


def _text_rows(columns: Sequence[Column]) -> str:
    """A row for each text element: what was read in its place, ticked where it is exact."""
    if any(column.cells[0].words is None for column in columns):
        return ""
    rows = []
    for i, wanted in enumerate(columns[0].cells[0].words or ()):
        read = [(column.cells[0].words or ())[i] for column in columns]
        cells = [f"✓ {word.read}" if word.exact else (word.read or "nothing") for word in read]
        rows.append(_row(f"Text “{html.escape(wanted.wanted)}”", "text", cells))
    return "".join(rows)


def _metric_rows(columns: Sequence[Column]) -> Iterator[str]:
    """A row for each metric of two pictures; the first says which variant is the reference."""
    for index, (metric, shown) in enumerate(in_table("compare")):
        cells = [_score(column.mean(metric.name), shown) for column in columns]
        if index == 0:
            cells = [
                "reference" if column.cells[0].scores is None else cell for column, cell in zip(columns, cells, strict=True)
            ]
        yield _row(html.escape(shown.head), metric.name, cells)


def _score(value: float | None, shown: TableColumn) -> str:
    if value is None:
        return "–"
    return "∞ (identical)" if math.isinf(value) else shown.text(value)


def _likeness() -> str:
    """`PSNR, SSIM (higher is closer) and LPIPS (lower is closer)`."""
    heads = {better: [shown.head for metric, shown in in_table("compare") if metric.better == better] for better in _BETTER}
    return " and ".join(f"{html.escape(', '.join(names))} ({better} is closer)" for better, names in heads.items() if names)


def _words(column: Column) -> str:
    found = column.words
    return "–" if found is None or found[1] == 0 else f"{found[0]} of {found[1]}"


_BETTER = ("higher", "lower")
_ROWS: tuple[tuple[str, str, Callable[[Column], str]], ...] = (
    ("Texts read exactly", "words", _words),
    ("Time per step", "step", lambda column: seconds(column.cells[-1].picture.seconds_per_step)),
    ("Total time", "total", lambda column: seconds(column.cells[-1].picture.total_seconds)),
    ("Peak memory", "memory", lambda column: byte_size(max(cell.picture.peak_bytes for cell in column.cells))),
    ("Weights", "weights", lambda column: byte_size(column.size_bytes)),
)


def standings(groups: Mapping[str, Sequence[Standing]], titles: Mapping[str, str]) -> str:
    """The order of the variants by all votes, and by category where there is more than one; `titles` by variant."""
    if not groups:
        return panel("idle", "No votes yet", notes=["The order of the variants appears here, with its uncertainty."])
    tables = []
    for name, found in groups.items():
        rows = "".join(_standing_row(rank, standing, titles) for rank, standing in enumerate(found, 1))
        tables.append(
            f'<div class="q8-head">{html.escape(name)}</div>{_TABLE}<thead><tr><th></th>'
            f"<th>Win rate</th><th>95 % interval</th><th>Votes</th><th>Strength</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )
    return (
        f'<div class="q8-panel" data-state="done">{"".join(tables)}<p class="q8-small">Ties and “both bad” count as half a win for '
        "each side. Intervals are Wilson's; strength is Bradley-Terry's, in log odds against the mean of the variants.</p></div>"
    )


def _standing_row(rank: int, standing: Standing, titles: Mapping[str, str]) -> str:
    low, high = standing.interval
    cells = (
        percent(standing.win_rate),
        f"{100 * low:.0f} to {100 * high:.0f} %",
        str(standing.votes),
        f"{standing.strength:+.2f}",
    )
    name = html.escape(titles.get(standing.variant, standing.variant))
    return f'<tr data-variant="{html.escape(standing.variant)}"><th>{rank}. {name}</th>{"".join(f"<td>{c}</td>" for c in cells)}</tr>'


def made(entry: Entry) -> str:
    """How a picture of the history was made."""
    metadata = entry.metadata
    facts = {
        "Variant": entry.variant,
        "Seed": str(metadata["seed"]),
        "Preset": str(metadata["preset"]),
        "Size": f"{metadata['width']} × {metadata['height']} px",
    }
    tiles = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts.items())
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
    return (
        f'<div class="q8-panel" data-state="done"><div class="q8-head">{"★ " if entry.favourite else ""}Made {when}<span></span></div>'
        f'<dl class="q8-tiles">{tiles}</dl><p class="q8-caption-text">{html.escape(str(metadata["caption"]))}</p></div>'
    )
