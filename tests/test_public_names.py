"""The public names: which they are, that each is there, and that asking for none of them loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ideogram_q8

PUBLIC = """IdeogramQ8Error Manifest Model Request Result generate load open_artifact open_source quantize read_metadata
steps to_caption write_png""".split()


def test_the_public_names_are_these():
    assert ideogram_q8.__all__ == sorted(ideogram_q8.__all__)
    assert ideogram_q8.__all__ == PUBLIC
    assert dir(ideogram_q8) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_documented(name: str):
    assert getattr(ideogram_q8, name).__doc__


def test_type_checkers_see_what_runs():
    assert ideogram_q8.__file__ is not None
    tree = ast.parse(Path(ideogram_q8.__file__).read_text(encoding="utf-8"))
    imports = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ideogram_q8.")
    ]
    seen = {alias.name: str(node.module).removeprefix("ideogram_q8.") for node in imports for alias in node.names}
    assert seen == ideogram_q8._HOMES


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'quantise'; its public names are IdeogramQ8Error, Manifest"):
        _ = ideogram_q8.quantise


def test_importing_the_package_loads_no_torch():
    code = "import ideogram_q8, sys; assert not {'torch', 'diffusers', 'numpy'} & set(sys.modules); dir(ideogram_q8)"
    subprocess.run([sys.executable, "-c", code], check=True)
