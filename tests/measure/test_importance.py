"""What importance is worth: plain and weighted rows of one size, and a page with the gain of every Linear."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ideogram_q8.captions.suite import get
from ideogram_q8.model.architecture import BRANCHES
from ideogram_q8.recipes.importance import Importance
from ideogram_q8.studies import ablation, importance
from ideogram_q8.studies.ablation_page import chart
from tests.policies.example import statistics_of

SPIKY = {"layers.0.feed_forward.w2": 30.0, "layers.1.attention.o": 30.0}


@pytest.fixture(scope="module")
def found(source):
    """Instead of paintings, flat pictures."""

    def paint(job, place):
        return [Image.fromarray(np.full((32, 32, 3), 128, np.uint8)) for _ in job.suite.cases]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation.AblationJob, "paint", paint)
        patch.setattr(importance, "PRESETS", ("q4_k_s",))
        patch.setattr(importance, "BUDGETS", ("q4_k_s",))
        return importance.ablate(source, statistics_of(source, SPIKY), "a" * 64, get("pocket").first(2), "turbo-12")


def test_weighted_files_have_the_size_of_plain_ones_and_err_less(found):
    plain, weighted, measured, _ = found.rows
    assert [row.name for row in found.rows] == ["q4_k_s", "q4_k_s + importance", "measured, as q4_k_s", "q8_0"]
    assert abs(plain.size - weighted.size) < 1000  # the header says more
    assert plain.artifact_sha256 != weighted.artifact_sha256
    assert measured.size <= plain.size + 8192
    assert weighted.noise.mean > plain.noise.mean
    assert measured.noise.mean >= weighted.noise.mean


def test_a_channel_that_is_loud_gains_most(found):
    plain, weighted = (row.snr_db for row in found.rows[:2])
    gains = {(branch, name): weighted[branch][name] - plain[branch][name] for branch in BRANCHES for name in SPIKY}
    assert min(gains.values()) > 1


def test_the_page_has_every_recipe_and_every_gain(found):
    page = importance.markdown(found)
    assert all(f"| {row.name} |" in page for row in found.rows)
    plain, weighted = (row.snr_db["conditional"]["layers.1.attention.o"] for row in found.rows[:2])
    assert f"| layers.1.attention.o | {plain:.1f} -> {weighted:.1f} ({weighted - plain:+.1f}) |" in page
    assert "in-sample" in page
    assert chart(found).width == 1600


def test_all_presets_stand_beside_their_weighted_forms(source):
    found = importance.recipes(Importance(statistics_of(source, {}), "a" * 64), source)
    names = [name for name, _ in found]
    assert names[0] == "q4_k_s"
    assert {"q4_k_m", "q4_k_m + importance", "q6_k + importance", "measured, as q4_k_m", "q8_0"} <= set(names)
    assert all(recipe.stats_sha256 is None or "imatrix" in recipe.policy or recipe.policy == "gguf" for _, recipe in found)
