"""docs/security.md lists the routes of the running app and who may call each; `python -m tests.ui.test_security_page` writes the list."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from ideogram_q8.ui.doors.middleware import OPEN_ROUTES
from tests.ui.conftest import ROOT
from tests.ui.site import Site, site

PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- routes: made by tests/ui/test_security_page.py -->\n", "<!-- end of routes -->\n"


def table(app: Site) -> str:
    """Markdown: each open path with its methods, and who gets an answer where there are accounts: asked of an app that has some."""
    rows = ["| route | methods | with accounts |", "|---|---|---|"]
    closed = 0
    for path, methods in sorted(app.routes().items()):
        plain = re.sub(r"\{[^}]*\}", "x", path)
        if not OPEN_ROUTES.fullmatch(plain):
            closed += 1
            continue
        answer = app.ask(min(methods), plain)
        rows.append(
            f"| `{path}` | {', '.join(sorted(methods))} | {'who has logged in' if answer.status == 401 else 'anybody'} |"
        )
    return "\n".join([*rows, "", f"Closed: {closed} other routes.", ""])


def test_the_page_lists_the_routes_of_the_running_app(tmp_path: Path) -> None:
    with site(tmp_path, accounts=[("alice", "secret")]) as app:
        found = table(app)
    written = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert written == found, "run python -m tests.ui.test_security_page"


def test_every_finding_has_its_tests_and_modules() -> None:
    rows = re.findall(r"^\| (\d+) [^|]*\|([^|]*)\|([^|]*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 23))
    for number, modules, tests in rows:
        for name in re.findall("`([^`]+)`", modules):
            assert (ROOT / "ideogram_q8" / name).exists(), (number, name)
        named = re.findall("`([^`]+)`", tests)
        assert named and all((ROOT / name).is_file() for name in named), (number, named)


def main() -> None:
    """Writes the list."""
    with tempfile.TemporaryDirectory() as folder, site(Path(folder), accounts=[("alice", "secret")]) as app:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + table(app) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
