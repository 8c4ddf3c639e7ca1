"""The pieces of HTML on the page, as pure functions. Everything that is not written here is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ideogram_q8.architecture import Traits
from ideogram_q8.ui.studio import Building, Event, Loading, Painting, Picture
from ideogram_q8.variants import Variant


def title(traits: Traits, runs: str) -> str:
    """The head of the page; `runs` says where the model runs and in which precision."""
    return (
        '<div class="q8-title"><h1>Ideogram Q8</h1>'
        "<p>Make a picture with any build of the model, or compare two builds on the same seed.</p>"
        f'<span class="q8-chip">{html.escape(traits.name)} · {html.escape(runs)}</span></div>'
    )


def card(variant: Variant) -> str:
    """The three lines of a variant's radio card."""
    size = byte_size(variant.size_bytes)
    state = size if variant.location is not None else f"≈ {size} · not built yet"
    return f"{variant.title}\n{variant.format}\n{state}"


def byte_size(count: int) -> str:
    """Decimal units, as file managers and model hubs count."""
    if count < 1e9:
        return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.2f} GB"


def seconds(value: float, digits: int = 2) -> str:
    """`digits` decimals below ten seconds, one below a minute."""
    if value < 60:
        return f"{value:.{digits if value < 10 else 1}f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def panel(state: str, head: str, right: str = "", *, fraction: float | None = None, notes: Sequence[str] = ()) -> str:
    """A box with a headline, an optional bar (0..1) and a line of notes; `state` is idle, running, cancelled or failed."""
    bar = "" if fraction is None else f'<div class="q8-bar"><i style="width:{100 * fraction:.1f}%"></i></div>'
    line = "".join(f"<span>{html.escape(note)}</span>" for note in notes)
    return (
        f'<div class="q8-panel" data-state="{state}" role="status"><div class="q8-head">{html.escape(head)}'
        f'<span>{html.escape(right)}</span></div>{bar}<div class="q8-note">{line}</div></div>'
    )


def progress(event: Building | Loading | Painting, label: str) -> str:
    """What is going on; `label` names the variant for people."""
    if isinstance(event, Building):
        percent = f"{100 * event.fraction:.0f} %"
        return panel(
            "running", f"Building {label}", percent, fraction=event.fraction, notes=["once; kept in your cache folder"]
        )
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
    return "while building the variant" if isinstance(event, Building) else "while loading"


def cancelled(note: str) -> str:
    """The state after cancelling; `note` says how far the work was."""
    text = f"Cancelled {note}".rstrip()
    return panel("cancelled", text, notes=["Nothing was saved. Change what you like and start again."])


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


def compared(a: Picture, b: Picture) -> str:
    """The state of the Compare tab when both pictures are there."""
    request = a.request
    reused = " and ".join(side for side, picture in (("A", a), ("B", b)) if picture.reused)
    right = f"{reused} reused from before" if reused else ""
    return panel(
        "done", "Compared", right, notes=[f"seed {request.seed}", request.preset, f"{request.width} × {request.height} px"]
    )


def sides(a: str, b: str) -> str:
    """The names above the two halves of the slider."""
    return (
        f'<div class="q8-sides"><span><b>A</b>{html.escape(a)}</span><span>{html.escape(b)}'
        '<b style="margin:0 0 0 6px">B</b></span></div>'
    )


def comparison(a: Picture, b: Picture, labels: tuple[Variant, Variant], psnr: float, ssim: float) -> str:
    """The table of the Compare tab."""
    rows = [
        ("Time per step", seconds(a.seconds_per_step), seconds(b.seconds_per_step)),
        ("Total time", seconds(a.total_seconds), seconds(b.total_seconds)),
        ("Peak memory", byte_size(a.peak_bytes), byte_size(b.peak_bytes)),
        ("Weights", byte_size(labels[0].size_bytes), byte_size(labels[1].size_bytes)),
    ]
    body = "".join(
        f"<tr><th>{name}</th><td>{html.escape(left)}</td><td>{html.escape(right)}</td></tr>" for name, left, right in rows
    )
    likeness = "∞ (identical)" if math.isinf(psnr) else f"{psnr:.2f} dB"
    return (
        f'<div class="q8-panel" data-state="done"><table class="q8-table"><thead><tr><th></th>'
        f"<th>A · {html.escape(labels[0].title)}</th><th>B · {html.escape(labels[1].title)}</th></tr></thead><tbody>{body}"
        f'<tr><th>PSNR, B to A</th><td colspan="2" data-metric="psnr">{likeness}</td></tr>'
        f'<tr><th>SSIM, B to A</th><td colspan="2" data-metric="ssim">{ssim:.4f}</td></tr></tbody></table>'
        '<p class="q8-small">PSNR and SSIM say how close B is to A: higher is closer, and SSIM is 1 for equal pictures. '
        "They do not say which one looks better. Time per step is the median; peak memory is that of the whole process.</p></div>"
    )
