"""The page about int8 compute: what it says is what its file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from ideogram_q8.errors import RequestError
from ideogram_q8.formats.manifest import identity
from ideogram_q8.formats.report import Report
from ideogram_q8.model.schemes import INT8_COMPUTE
from ideogram_q8.studies import compute

CARDS = Path(__file__).resolve().parents[2] / "model_cards" / "ablation"
REPORT = CARDS / "pocket-compute-report.json"


def test_the_committed_page_is_made_of_the_committed_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert compute.main(["--report", str(REPORT), "--out", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == (CARDS / "pocket-compute.md").read_text(encoding="utf-8")


def test_each_build_was_measured_both_ways() -> None:
    """The same files under two identities."""
    report = Report.from_json(REPORT.read_text(encoding="utf-8"))
    changed = [variant for variant in report.variants if variant.name.endswith(INT8_COMPUTE)]
    assert [variant.name for variant in changed] == ["q8_0-int8-compute", "q4_k_s-int8-compute"]
    for variant in changed:
        usual = report.variant(variant.name.removesuffix(INT8_COMPUTE))
        assert usual is not None and usual.files == variant.files
        digests = [file.sha256 for file in usual.files]
        assert (usual.artifact_sha256, variant.artifact_sha256) == (identity(digests), identity(digests, compute="int8"))


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected a file in a folder that is there"):
        compute.main(["--report", "report.json", "--out", str(tmp_path / "none" / "page.md")])
