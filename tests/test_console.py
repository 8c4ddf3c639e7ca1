"""The ends of a command: consoles that show few signs, pipes that nobody reads, Ctrl-C while modules are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ideogram_q8.machine import console

ROOT = Path(__file__).resolve().parents[1]
CAPTION = "a café with 東京 on its sign \N{PARTY POPPER}"


def environment(**changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | changes


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """In a process of its own, from the repository's root."""
    usual = {
        "env": environment(),
        "cwd": ROOT,
        "timeout": 120,
        "stderr": subprocess.PIPE,
        "stdout": subprocess.PIPE,
    }
    return subprocess.run([sys.executable, *command], check=False, **usual | options)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    from ideogram_q8.formats.png import write_png
    from tests.test_png import METADATA

    path = tmp_path_factory.mktemp("picture") / "sign.png"
    write_png(path, Image.new("RGB", (64, 64)), METADATA | {"caption": CAPTION})
    return path


def inspect(picture: Path, *more: str, **changes: str) -> subprocess.CompletedProcess[bytes]:
    return run("-m", "ideogram_q8", "inspect", str(picture), *more, env=environment(**changes))


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", CAPTION), ("cp1252", "a café with \\u6771\\u4eac"), ("ascii", "a caf\\u00e9 with")]
)
def test_what_a_console_cannot_show_is_escaped(picture: Path, encoding: str, shown: str) -> None:
    done = inspect(picture, PYTHONUTF8="0", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "utf-16"])
def test_json_is_json_on_any_console(picture: Path, encoding: str) -> None:
    done = inspect(picture, "--json", PYTHONUTF8="0", PYTHONIOENCODING=encoding)
    text = done.stdout.decode(encoding)
    assert CAPTION in json.dumps(json.loads(text), ensure_ascii=False)
    assert encoding == "utf-8" or text.isascii()


@pytest.mark.skipif(os.name != "posix", reason="closes a pipe as POSIX has it")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", [("-m", "ideogram_q8", "--help"), ("-m", "ideogram_q8", "inspect", "pocket"), ("app.py", "--help")]
)
def test_a_pipe_that_nobody_reads_ends_quietly(command: tuple[str, ...], unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = run(*command, stdout=theirs, env=environment(PYTHONUNBUFFERED=unbuffered))
    finally:
        os.close(theirs)
    assert done.stderr == b""
    assert done.returncode == console.UNREAD or command[-1] == "--help"  # argparse takes no notice


STOPPED = """
import os, runpy, signal, sys
WHERE = sys.argv[1]
class Stop:
    def find_spec(self, name, *_):
        if name == WHERE:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Stop())
name, sys.argv = sys.argv[2], [sys.argv[2], *sys.argv[3:]]
run = runpy.run_path if name.endswith(".py") else runpy.run_module
run(name, run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal as POSIX has it")
@pytest.mark.parametrize(
    ("imported", "command"),
    [
        ("ideogram_q8.commands", ("ideogram_q8", "inspect", "pocket")),
        ("ideogram_q8.commands.report", ("ideogram_q8", "inspect", "pocket")),
        ("ideogram_q8.builds.inspection", ("ideogram_q8", "inspect", "pocket")),
        ("ideogram_q8.formats.stored", ("ideogram_q8", "inspect", "pocket")),
        ("platformdirs", ("app.py",)),
        ("gradio", ("app.py", "--port", "0")),
        ("huggingface_hub", ("publish/push.py", "plan", "nothing", "--repo", "someone/x")),
    ],
)
def test_ctrl_c_while_modules_are_imported_is_one_line(imported: str, command: tuple[str, ...]) -> None:
    done = run("-c", STOPPED, imported, *command, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (console.INTERRUPTED, "", "interrupted\n")


def test_a_defect_keeps_its_traceback() -> None:
    program = "from ideogram_q8.machine import console; console.prepare(); raise ValueError('a defect \\u6771')"
    done = run("-c", program, text=True, env=environment(PYTHONIOENCODING="ascii"))
    assert done.returncode == 1 and "Traceback" in done.stderr and "a defect \\u6771" in done.stderr


@pytest.mark.parametrize(
    ("end", "code"), [(SystemExit(), 0), (SystemExit(3), 3), (SystemExit("why"), 1), (KeyboardInterrupt(), 130)]
)
def test_exit_codes_are_kept(end: BaseException, code: int) -> None:
    def main() -> int:
        raise end

    assert console.run(main) == code
    assert console.run(lambda: 7) == 7


def test_other_errors_of_the_system_are_not_hidden() -> None:
    def main() -> int:
        raise BrokenPipeError("of a child")

    with pytest.raises(BrokenPipeError, match="of a child"):
        console.run(main)
