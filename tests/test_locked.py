"""One version of everything: constraints.txt names all that the requirements do, within their ranges, and is what people and CI install."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ("requirements.txt", "tests/requirements.txt", "tests/interop/requirements.txt")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}


def lines(path: str) -> Iterator[Requirement]:
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        if text and text[0] not in "#-":
            yield Requirement(text)


LOCKED = tuple(lines("constraints.txt"))


def machine(python: str, platform: str) -> dict[str, str]:
    """What markers see there."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_machine": PLATFORMS[platform],
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "extra": "",
    }


def holds(requirement: Requirement, where: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(where)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_required_is_locked_within_its_range(python: str, platform: str) -> None:
    where = machine(python, platform)
    locked: dict[str, Version] = {}
    for each in LOCKED:
        if holds(each, where):
            name = canonicalize_name(each.name)
            assert name not in locked, f"{name} has two versions on Python {python}, {platform}"
            (pin,) = each.specifier
            assert pin.operator == "==" and "*" not in pin.version
            locked[name] = Version(pin.version)
    for path in REQUIREMENTS:
        for wanted in lines(path):
            if holds(wanted, where):
                assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), f"{path}: {wanted}; run .ci/lock"


def test_the_lock_is_of_no_machine() -> None:
    """No index, no path, no build of torch, and none of the libraries that its CUDA builds bring: a CPU needs none of them."""
    for each in LOCKED:
        assert each.url is None and not each.name.startswith(("nvidia-", "cuda-")), each
        assert "+" not in str(each.specifier), each
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*--|^/", text, re.MULTILINE)


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        ".ci/run",
        "CONTRIBUTING.md",
        "ideogram_q8/publishing/cards/template.md.j2",
        "ideogram_q8/publishing/cards/family.md.j2",
    ],
)
def test_who_installs_the_requirements_takes_the_locked_versions(path: str) -> None:
    found = re.findall(r"pip install [^\n`]*-r [^\n`]*", (ROOT / path).read_text(encoding="utf-8"))
    assert found and all("-c constraints.txt" in command for command in found)


def test_the_pythons_are_those_that_the_package_names() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={PYTHONS[0]}"' in text
    for python in PYTHONS:
        assert f'"Programming Language :: Python :: {python}"' in text
    assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / "README.md").read_text(encoding="utf-8")
