"""The way of docs/publishing.md, line by line, on the pocket, under another owner and name, to a Hub on this machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from ideogram_q8.__main__ import main
from tests.hub.server import Hub
from tests.publishing.example import metadata

PAGE = Path(__file__).resolve().parents[2] / "docs" / "publishing.md"
REPO = "someone/small_posters"
SMALLER = {
    "ideogram-4-fp8": "pocket",
    "you/ideogram-4-q8": REPO,
    "--suite ideogram --count 100 --device cuda": "--suite pocket --count 2 --preset turbo-12 --size 64x64",
}
"""What the walk has in place of what a person with a graphics card and the weights has."""


def lines() -> Iterator[list[str]]:
    """Arguments of each command of the page's first block."""
    block = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    for theirs, ours in SMALLER.items():
        assert theirs in block, f"{PAGE.name} has no {theirs!r} any more"
        block = block.replace(theirs, ours)
    for line in block.splitlines():
        program, arguments = shlex.split(line, comments=True)[:3], shlex.split(line, comments=True)[3:]
        assert program == ["python", "-m", "ideogram_q8"]
        yield arguments


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=")
def test_the_page_leads_to_a_repository(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in lines():
        assert main(arguments) == 0, shlex.join(arguments)
    pulled = Path(snapshot_download(REPO, local_dir=tmp_path / "pulled", token=hub.token))
    for card in ("README.md", "int8/README.md", "q4_k_s/README.md"):
        text = (pulled / card).read_text(encoding="utf-8")
        assert text == (tmp_path / "cards" / card).read_text(encoding="utf-8")
        assert metadata(text)["quantized_by"] == "someone" and "ideogram-q8/pocket" not in text
        assert REPO in text
    shown = metadata((pulled / "int8" / "README.md").read_text(encoding="utf-8"))
    assert [result["metrics"] for result in shown["model-index"][0]["results"]]
    assert len(shown["widget"]) == 2
    for sample in shown["widget"]:
        assert (pulled / "int8" / sample["output"]["url"]).is_file()
    assert (pulled / "q4_k_s" / "images" / "comparison.webp").is_file()
    rows = [line for line in (pulled / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [`")]
    assert len(rows) == 2 and not any("not measured" in row for row in rows)
