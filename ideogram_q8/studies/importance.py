"""What importance is worth in GGUF files: presets plain and weighted, and the budgeted policy, by output error and by pictures.

The first row is plain Q4_K. A weighted row differs from the plain one of its name in nothing but how ggml's search counts errors,
so the files have the same size to the byte. Built, measured and painted as in `evaluation.ablation`.
"""

from __future__ import annotations

from ideogram_q8.captions.suite import CaptionSuite
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.policies.gguf import file_bytes, fit, measure, recipe_errors
from ideogram_q8.policies.measurement import check_statistics
from ideogram_q8.recipes import Recipe, choose
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.recipes.rules import weigh
from ideogram_q8.recipes.statistics import Statistics
from ideogram_q8.sources import Source
from ideogram_q8.studies.ablation import Ablation, AblationJob, Errors, OnProgress, Row
from ideogram_q8.studies.ablation_page import by_kind, decibels, interval, settings

PRESETS = ("q4_k_s", "q4_k_m", "q5_k_m", "q6_k")
BUDGETS = ("q4_k_s", "q4_k_m")
"""Presets in whose bytes the budgeted policy chooses."""
WEIGHTED = " + importance"


def recipes(importance: Importance, source: Source, device: str = "cpu") -> list[tuple[str, Recipe]]:
    """All recipes and their rows' names, plain Q4_K first."""
    planned = [(name, choose(name, source.config)) for name in PRESETS]
    rows = [row for name, plain in planned for row in ((name, plain), (f"{name}{WEIGHTED}", weigh(plain, importance)))]
    groups = measure(importance, source, device)
    fitted = [(name, fit(groups, importance, source, file_bytes(choose(name, source.config), source))) for name in BUDGETS]
    rows += [(f"measured, as {name}", weigh(recipe, importance)) for name, recipe in fitted]
    return [*rows, ("q8_0", choose("q8_0", source.config))]


def ablate(
    source: Source,
    statistics: Statistics,
    stats_sha256: str,
    suite: CaptionSuite,
    preset: str,
    *,
    device: str = "cpu",
    on_progress: OnProgress = lambda _: None,
) -> Ablation:
    """Builds, measures and paints every recipe, one at a time, in a temporary folder.

    Raises:
        ArtifactError: the statistics are of other weights.
        ResourceError: too little disk or memory.
    """
    check_statistics(statistics, source)
    importance = Importance(statistics, stats_sha256)
    on_progress("measuring every Linear for the budgeted policy")
    planned = recipes(importance, source, device)

    def errors_of(recipe: Recipe) -> Errors:
        return recipe_errors(importance, recipe, source, device)

    return AblationJob(source, importance, suite, preset, device).run(planned, errors_of, on_progress)


def markdown(ablation: Ablation) -> str:
    """The page: settings, a table of recipes, one by kind of Linear, and what importance gains in each Linear of plain Q4_K."""
    lines = [*settings(ablation), "", *_recipes(ablation), "", *by_kind(ablation), "", *_gains(ablation), "", _NOTE]
    return "\n".join(lines) + "\n"


def _recipes(ablation: Ablation) -> list[str]:
    first = ablation.rows[0].name
    titles = [
        *("recipe", "MB", "output SNR: worst, dB", "median, dB", "of the mean error, dB"),
        *("PSNR to FP8, dB", f"gain over {first}, dB", "SSIM"),
    ]
    table = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for row in ablation.rows:
        cells = (
            row.name,
            f"{row.size / 1e6:.2f}",
            *(decibels(value) for value in (row.noise.worst, row.noise.median, row.noise.mean)),
            interval(row.psnr, 1),
            "–" if row is ablation.rows[0] else interval(row.gain, 2),
            interval(row.ssim, 4),
        )
        table.append(f"| {' | '.join(cells)} |")
    return table


def _gains(ablation: Ablation) -> list[str]:
    """Plain and weighted Q4_K side by side, Linear by Linear."""
    plain = ablation.rows[0]
    weighted = next(row for row in ablation.rows if row.name == f"{plain.name}{WEIGHTED}")
    table = [
        f"Output SNR of each Linear in dB, {plain.name} plain -> weighted (gain):",
        "",
        f"| Linear | {' | '.join(BRANCHES)} |",
        f"|---|{'---|' * len(BRANCHES)}",
    ]
    names = dict.fromkeys(name for branch in BRANCHES for name in plain.snr_db[branch])
    for name in names:
        cells = [_gain(plain, weighted, branch, name) for branch in BRANCHES]
        if any(cells):
            table.append(f"| {name} | {' | '.join(cell or 'kept' for cell in cells)} |")
    return table


def _gain(plain: Row, weighted: Row, branch: str, name: str) -> str | None:
    before, after = plain.snr_db[branch].get(name), weighted.snr_db[branch].get(name)
    return None if before is None or after is None else f"{before:.1f} -> {after:.1f} ({after - before:+.1f})"


_NOTE = (
    "SNR: each Linear's output on the calibration's inputs, with the decoded weight in float32, against the source's own weights. "
    "Importance, and the `measured` recipes, come from these very inputs, so their SNR is in-sample and flatters them; PSNR and SSIM "
    "are of other captions."
)
