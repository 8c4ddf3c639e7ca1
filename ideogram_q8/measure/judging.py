"""What is measured of a finished picture: its likeness to the reference's, its text, its worth by itself.

Tools are made once. One that is missing does not stop a run: its metrics are "not measured", with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from PIL import Image

from ideogram_q8.captions.suite import Case
from ideogram_q8.errors import RequestError
from ideogram_q8.formats.report import METRICS
from ideogram_q8.measure import lpips, metrics
from ideogram_q8.measure.latents import Errors
from ideogram_q8.measure.words import ocr, scores

OCR = ("ocr_exact_match", "ocr_match_any_case", "ocr_ned")
PER_CAPTION = tuple(name for name, metric in METRICS.items() if metric.margin is not None)
Values = dict[str, float | None]
"""By metric; None where it does not apply to the caption."""


@dataclass
class Judges:
    """The tools that are there; `missing` has the reason why a metric is not measured."""

    reader: ocr.Reader | None = None
    lpips: lpips.Weights | None = None
    scorers: dict[str, scores.Scorer] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, device: str = "cpu") -> Judges:
        """All tools that this machine has; `device` runs the scorers."""
        judges = cls()
        try:
            judges.reader = ocr.Reader(torch.get_num_threads())
        except RequestError as error:
            judges.missing |= dict.fromkeys(OCR, str(error))
        weights = lpips.find()
        if weights is None:
            judges.missing["lpips"] = f"its network's weights are not here: {lpips.REMEDY}"
        else:
            judges.lpips = lpips.read_weights(weights)
        for name, judge in scores.JUDGES.items():
            judges._load(name, judge, device)
        return judges

    def _load(self, name: str, judge: scores.Judge, device: str) -> None:
        try:
            self.scorers[name] = scores.Scorer(judge, device)
        except RequestError as error:
            self.missing[name] = str(error)

    def values(self, picture: Image.Image, case: Case, reference: Image.Image | None, errors: Errors | None) -> Values:
        """Everything that can be said of a picture; `reference` is None for the reference itself."""
        found: Values = {}
        if reference is not None:
            found |= {"psnr": metrics.finite_psnr(reference, picture), "ssim": metrics.ssim(reference, picture)}
            if self.lpips is not None:
                found["lpips"] = lpips.metric(self.lpips)(reference, picture)
            found["latent_mse"] = None if errors is None else errors.final_decibels
            found["velocity_snr"] = None if errors is None else errors.mean_snr
        if self.reader is not None:
            found |= self._read(self.reader, picture, case)
        if self.scorers:
            words = scores.words_of(case.caption)
            found |= {name: scorer(picture, words) for name, scorer in self.scorers.items()}
        return {name: None if value is None else float(f"{value:.6g}") for name, value in found.items()}

    @staticmethod
    def _read(reader: ocr.Reader, picture: Image.Image, case: Case) -> Mapping[str, float | None]:
        texts = [text for text in case.texts if reader.can_read(text.text)]
        found = ocr.score(reader(picture), texts) if texts else None
        return dict(zip(OCR, (None,) * 3 if found is None else (found.exact, found.any_case, found.distance), strict=True))
