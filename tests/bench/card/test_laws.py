"""What pytest's report of the laws says: how many hold, which do not, and whether any was tried."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ideogram_q8.bench.card.phase_laws import read
from ideogram_q8.errors import RequestError


@pytest.fixture
def reported(tmp_path):
    """pytest's own report of a file with this text."""

    def run(text):
        (tmp_path / "some_laws.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={tmp_path / 'x.xml'}"]
        subprocess.run([*command, str(tmp_path / "some_laws.py")], cwd=tmp_path, capture_output=True, check=False)
        return tmp_path / "x.xml"

    return run


def test_laws_are_counted_and_broken_ones_named(reported):
    text = "import pytest\n\ndef test_a(): pass\n\ndef test_b(): pytest.skip()\n\n"
    assert read(reported(text)) == {"passed": 1, "skipped": 1, "failed": 0}
    found = read(reported(f"{text}def test_c(): assert 0\n\ndef test_d(none): pass\n"))
    assert found == {"passed": 1, "skipped": 1, "failed": 2, "wrong": "2 laws do not hold: test_c, test_d"}
    assert read(reported("def test_c(): assert 0\n"))["wrong"] == "1 laws do not hold: test_c"


def test_a_file_that_cannot_be_imported_says_nothing_about_its_laws(reported):
    with pytest.raises(RequestError, match="no law was tried: .*No module named 'a_library_that_nobody_has'"):
        read(reported("import a_library_that_nobody_has\n"))
    with pytest.raises(RequestError, match="no law was tried: there is none"):
        read(reported(""))
