"""What int8 scores cost attention: the operator on made-up heads of Ideogram 4's shape, and the pictures of a report, on one page.

    python -m ideogram_q8.studies.attention --report REPORT.json --out FOLDER

The report is what `evaluate --int8-attention` wrote. The heads are normal numbers after the norm that queries and keys have, with what
makes them hard: attention that picks few keys, channels and tokens with outliers, keys with a mean. Ways beside the operator say what each
of its parts is worth, and what int8 weights and values would have cost. No head of Ideogram 4 was looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from ideogram_q8.builds.folder import write_text
from ideogram_q8.errors import ArtifactError, RequestError
from ideogram_q8.formats.manifest import TOOL_VERSION
from ideogram_q8.formats.report import Report
from ideogram_q8.formats.strict_json import check_version, decode, parse_json
from ideogram_q8.measure.pages import table
from ideogram_q8.model.architecture import IDEOGRAM4
from ideogram_q8.numerics import attention, int8

FORMAT_VERSION = 1
FILES = ("pocket-attention.json", "pocket-attention.md")
TOKENS, QUERIES = 4608, 64
"""Keys of a head at 1024x1024 with 512 text tokens, and the queries of it that are looked at."""
_BLOCK = 64
"""Keys whose weights share a scale where weights are int8, as in a kernel that goes over the keys."""
Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Heads:
    """Made-up heads: `sharpness` multiplies queries, `channels` four channels of q and k, `mean` is that of the keys before their norm,
    `values` three channels of v and, a third of it, five of its tokens.
    """

    sharpness: float = 1.0
    channels: float = 1.0
    mean: float = 0.0
    values: float = 1.0

    def draw(
        self, heads: int, queries: int, tokens: int, width: int, seed: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q [1, heads, queries, width], k and v [1, heads, tokens, width] in float32."""
        generator = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(1, heads, n, width, generator=generator) for n in (queries, tokens, tokens))
        factor = 1 + 0.3 * torch.randn(width, generator=generator).abs()
        factor[torch.randperm(width, generator=generator)[:4]] *= self.channels
        k = k + self.mean * torch.randn(1, heads, 1, width, generator=generator)
        q, k = (functional.rms_norm(x, (width,)) * factor for x in (q, k))
        v[..., torch.randperm(width, generator=generator)[:3]] *= self.values
        v[:, :, torch.randperm(tokens, generator=generator)[:5]] *= max(1.0, self.values / 3)
        return q * self.sharpness, k, v


KINDS: Mapping[str, Heads] = {
    "even attention": Heads(),
    "sharp attention": Heads(sharpness=4),
    "keys with a mean": Heads(mean=3),
    "outlier channels in q and k": Heads(channels=10),
    "outlier channels, a mean, outlier tokens in v": Heads(channels=5, mean=2, values=20),
    "all of it": Heads(sharpness=4, channels=5, mean=2, values=20),
}


def _bfloat16(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q.bfloat16(), k.bfloat16(), v.bfloat16())


def _plain_codes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Neither smoothed nor rotated."""
    q, k = (int8.dequantize(*int8.quantize_per_token(x)) for x in (q, k))
    return functional.scaled_dot_product_attention(q, k, v)


def _smoothed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return _plain_codes(q, k - attention.key_mean(k), v)


def _int8_values(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The operator's scores; weights as codes of 1/127 of the largest in each block of keys, values in int8 by channel."""
    queries, query_scale = attention.quantize_queries(q)
    keys, key_scale = attention.quantize_keys(k)
    scores = (queries.float() @ keys.float().mT).mul_(query_scale).mul_(key_scale.mT)
    scores -= scores.amax(-1, keepdim=True)
    scale = v.abs().amax(-2, keepdim=True) / int8.CODE_MAX
    codes, found = (v / scale).round(), torch.zeros_like(q)
    for start in range(0, k.shape[2], _BLOCK):
        part = scores[..., start : start + _BLOCK]
        largest = part.amax(-1, keepdim=True)
        weights = (part - largest).exp2().mul_(int8.CODE_MAX).round_()
        found += (weights @ codes[:, :, start : start + _BLOCK]) * largest.exp2()
    return found * scale / int8.CODE_MAX / scores.exp2().sum(-1, keepdim=True)


WAYS: Mapping[str, Way] = {
    "bfloat16": _bfloat16,
    "int8 scores": _plain_codes,
    "keys smoothed": _smoothed,
    "rotated too: the operator": attention.attend,
    "weights and values in int8 as well": _int8_values,
}


@dataclass(frozen=True)
class OperatorErrors:
    """All of pocket-attention.json. `snr_db` by kind of heads and way: the output's signal to noise against float64."""

    format_version: int
    tool_version: str
    torch: str
    heads: int
    queries: int
    tokens: int
    width: int
    snr_db: Mapping[str, Mapping[str, float]]

    def to_json(self) -> str:
        """`from_json` gives the same object back."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> OperatorErrors:
        """Raises ArtifactError naming the key that is unknown, missing or of a wrong type."""
        value = parse_json(text, FILES[0], ArtifactError)
        check_version(value, FORMAT_VERSION, FILES[0], ArtifactError, "measure again")
        return decode(cls, value, FILES[0], ArtifactError)


def measure(
    heads: int = IDEOGRAM4.num_attention_heads,
    queries: int = QUERIES,
    tokens: int = TOKENS,
    width: int = IDEOGRAM4.attention_head_dim,
) -> OperatorErrors:
    """Every way on every kind of heads, on the CPU."""
    found: dict[str, dict[str, float]] = {}
    for name, kind in KINDS.items():
        q, k, v = kind.draw(heads, queries, tokens, width)
        exact = functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
        found[name] = {way: round(_snr(compute(q, k, v), exact), 2) for way, compute in WAYS.items()}
    return OperatorErrors(FORMAT_VERSION, TOOL_VERSION, torch.__version__, heads, queries, tokens, width, found)


def _snr(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(10 * torch.log10(exact.square().sum() / (found.double() - exact).square().sum()))


# ---- the page ----


def markdown(errors: OperatorErrors, report: Report) -> str:
    """A table of the operator, and one of the report's pictures."""
    return "\n".join(["# int8 attention", "", *_operator(errors), "", *_pictures(report)]) + "\n"


def _operator(errors: OperatorErrors) -> list[str]:
    ways = list(next(iter(errors.snr_db.values())))
    text = (
        f"Output SNR in dB against float64 on made-up heads of Ideogram 4's shape: {errors.heads} heads of {errors.width}, "
        f"{errors.tokens} keys, {errors.queries} queries. After bfloat16 each way adds to the one before it; the operator's weights and "
        "values are float16."
    )
    rows = [f"| {kind} | {' | '.join(f'{found[way]:.1f}' for way in ways)} |" for kind, found in errors.snr_db.items()]
    return [text, "", f"| heads | {' | '.join(ways)} |", f"|---{'|---' * len(ways)}|", *rows]


def _pictures(report: Report) -> list[str]:
    limits = "The pocket's heads have 32 values, its pictures 64 tokens: Ideogram 4's own were not measured."
    return [f"{table.conditions(report)} {limits}", "", *table.markdown(report).splitlines()]


def main(arguments: Sequence[str]) -> int:
    """Measures and writes FILES; the pictures are those of the report."""
    parser = argparse.ArgumentParser(prog="python -m ideogram_q8.studies.attention")
    parser.add_argument("--report", type=Path, required=True, help="what `evaluate --int8-attention` wrote")
    parser.add_argument("--out", type=Path, required=True, help=f"an existing folder for {' and '.join(FILES)}")
    given = parser.parse_args(arguments)
    if not given.out.is_dir():
        raise RequestError(f"--out is {given.out}; expected a folder that is there")
    report = Report.from_json(given.report.read_text(encoding="utf-8"))
    errors = measure()
    write_text(given.out / FILES[0], errors.to_json())
    write_text(given.out / FILES[1], markdown(errors, report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
