"""The laws of the Triton programs in tests/kernels, compiled for this card; in a rehearsal a few of them, interpreted."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from ideogram_q8.bench.card.report import WRONG, PhaseReport
from ideogram_q8.bench.card.setting import CardSetting
from ideogram_q8.errors import RequestError, ResourceError

_ROOT = Path(__file__).resolve().parents[3]
_FILES = ("triton_attention_laws.py", "triton_laws.py")
_REHEARSED = ["-k", "heads_get_the_codes and 1-32"]
_MOST_NAMES = 30
_CLOSING = 5.0
"""Seconds in which a line can still be written when the laws take too long; laws.log has those that were tried."""


def run(setting: CardSetting, report: PhaseReport) -> None:
    """Raises ModuleNotFoundError: there is nothing to run them with."""
    for module in ("pytest", "triton"):
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    files = _FILES[:1] if setting.rehearse else _FILES
    report.attempts([(name, functools.partial(_laws, setting, report, name)) for name in files])


def _laws(setting: CardSetting, report: PhaseReport, name: str) -> Mapping[str, object]:
    """Counts, and which laws do not hold. Raises ResourceError: no such file, as where the package alone is installed; RequestError."""
    path = _ROOT / "tests" / "kernels" / name
    if not path.is_file():
        raise ResourceError(f"there is no {path.relative_to(_ROOT)} beside this package; run from a clone of the project")
    junit = setting.folder / f"{path.stem}.xml"
    junit.unlink(missing_ok=True)  # of an earlier run
    # without the conftest of the whole suite, which needs what the laws do not
    options = ["-v", "-p", "no:cacheprovider", "--noconftest", f"--junitxml={junit.resolve()}"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    environment = {**os.environ, "TRITON_INTERPRET": "1" if setting.rehearse else "0"}
    chosen = _REHEARSED if setting.rehearse else []
    code = subprocess.run(
        [*command, *chosen], cwd=_ROOT, env=environment, check=False, timeout=max(1.0, report.left - _CLOSING)
    ).returncode
    if not junit.is_file():
        raise RequestError(f"pytest ended with code {code} before it tried a law; laws.log has its words")
    return {"code": code, **read(junit)}


def read(junit: Path) -> dict[str, object]:
    """What pytest found. Raises RequestError: it tried no law, because their file cannot be imported or has none of that name."""
    cases = list(ET.parse(junit).getroot().iter("testcase"))
    errors = [error for case in cases if (error := case.find("error")) is not None]
    collecting = [error for error in errors if error.get("message") == "collection failure"]
    if collecting or not cases:
        why = (collecting[0].text or "").strip().splitlines()[-1:] if collecting else ["there is none"]
        raise RequestError(f"no law was tried: {' '.join(why)}")
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [str(case.get("name")) for case in broken[:_MOST_NAMES]]
    wrong = {WRONG: f"{len(broken)} laws do not hold: {', '.join(names)}"} if broken else {}
    return {"passed": len(cases) - len(broken) - skipped, "skipped": skipped, "failed": len(broken), **wrong}
