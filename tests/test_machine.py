"""What the systems say and do, each of them on any: Linux by a made up /proc, macOS by what its programs print, Windows by its library."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ideogram_q8.builds.folder import check_target, new_folder
from ideogram_q8.errors import ArtifactError, ResourceError
from ideogram_q8.machine import platforms as machine
from ideogram_q8.machine.platforms import HostMemory, Linux, MacOS, Posix, System, Windows

GB = 10**9


class Kernel32:
    """What Windows' library answers: 32 GB, of which 20 can be had; a process that holds 3 and held 4."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.GetCurrentProcess = SimpleNamespace(restype=None)
        self.GetCurrentProcess = _Function(lambda: -1)
        self.GlobalMemoryStatusEx = _Function(self._status)
        self.K32GetProcessMemoryInfo = _Function(self._process)

    def _status(self, where: Any) -> int:
        found = where._obj
        assert found.length == ctypes.sizeof(found) == 64
        found.total, found.available = 32 * GB, 20 * GB
        return 0 if self.fails else 1

    def _process(self, process: int, where: Any, length: int) -> int:
        found = where._obj
        assert process == -1 and length == found.length == ctypes.sizeof(found) == 8 + 8 * ctypes.sizeof(ctypes.c_size_t)
        found.peak, found.resident = 4 * GB, 3 * GB
        return 0 if self.fails else 1


class _Function:
    def __init__(self, answer: Any) -> None:
        self._answer, self.restype, self.argtypes = answer, None, None

    def __call__(self, *arguments: Any) -> Any:
        return self._answer(*arguments)


def windows(fails: bool = False) -> Windows:
    return Windows(lambda name: {"kernel32": Kernel32(fails)}[name])


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                                5000.
Pages active:                            300000.
Pages inactive:                            7000.
"""


def macos_answer(*command: str) -> str:
    answers = {
        "vm_stat": VM_STAT,
        "sysctl -n hw.memsize": "17179869184\n",
        "sysctl -n machdep.cpu.brand_string": "Apple M3\n",
        f"ps -o rss= -p {os.getpid()}": "  2048\n",
    }
    return answers[" ".join(command)]


def proc(folder: Path) -> Linux:
    files = {
        "meminfo": "MemTotal:  1000 kB\nMemFree: 7 kB\nMemAvailable:   400 kB\nHugePages_Total:  0\n",
        "self/status": "Name:\tpython\nVmHWM:\t  30 kB\nVmRSS:\t  20 kB\n",
        "cpuinfo": "model name\t: A processor\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: A processor\n",
        "driver/nvidia/version": "NVRM version: 580.1\nGCC\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Linux(folder)


def test_memory_is_what_the_system_says(tmp_path: Path) -> None:
    assert proc(tmp_path).memory() == HostMemory(1000 * 1024, 400 * 1024, 20 * 1024)
    assert MacOS(macos_answer).memory() == HostMemory(16 * 2**30, 12000 * 16384, 2048 * 1024)
    assert windows().memory() == HostMemory(32 * GB, 20 * GB, 3 * GB)


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    for silent in (Linux(tmp_path / "no proc"), MacOS(lambda *_: ""), windows(fails=True), System()):
        assert silent.memory() == HostMemory()
        silent.reset_peak()
    assert System().peak_resident() is None and windows(fails=True).peak_resident() is None
    assert System().busy_seconds() is None and Linux(tmp_path).busy_seconds() is None
    assert Linux(tmp_path).processor() and Linux(tmp_path).instructions() == ()


def test_a_peak_is_of_this_process(tmp_path: Path) -> None:
    assert proc(tmp_path).peak_resident() == 30 * 1024
    assert windows().peak_resident() == 4 * GB
    resource = pytest.importorskip("resource")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert MacOS(macos_answer).peak_resident() >= most and Posix().peak_resident() >= most * 1024


def test_processors_have_the_name_they_are_sold_under(tmp_path: Path) -> None:
    found = proc(tmp_path)
    assert (found.processor(), found.instructions()) == ("A processor", ("avx2", "avx512_vnni"))
    assert found.nvidia_driver() == "NVRM version: 580.1"
    assert MacOS(macos_answer).processor() == "Apple M3"
    assert windows().processor()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does")
def test_busy_time_leaves_out_waiting_and_guests(tmp_path: Path) -> None:
    usable = min(os.sched_getaffinity(0))
    lines = f"cpu  9 9 9 9 9 9 9 9 9 9\ncpu{usable} 100 20 3 5000 700 40 5 6 80 90\ncpu99999 1 1 1 1 1 1 1 1 1 1\n"
    (tmp_path / "stat").write_text(lines, encoding="ascii")
    assert Linux(tmp_path).busy_seconds() == (100 + 20 + 3 + 40 + 5 + 6) / os.sysconf("SC_CLK_TCK")


def test_this_computer_is_the_one_that_python_names() -> None:
    assert [type(machine.of(name)) for name in ("linux", "darwin", "win32")] == [Linux, MacOS, Windows]
    assert type(machine.here) is type(machine.of(sys.platform))


BAD_NAMES = (
    *("con.png", "NUL", "aux.tar.gz", "Com1.json", "LPT9", "prn ", "COM².png", "conin$"),
    *("a:b.png", "what?.png", "a*", "x|y", 'say "x".png', "tab\t.png", "a<b", "end.", "end ", "a\\b"),
)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_windows_has_not_are_told(name: str) -> None:
    assert "Windows" in str(windows().name_problem(name))
    assert Linux().name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["star.png", "console.png", "com10.png", "con-1.png", ".partial", "日本 1.png", "a'b,c;d=e.png"]
)
def test_names_that_windows_has_are_none_of_them(name: str) -> None:
    assert windows().name_problem(name) is None


def test_an_output_of_a_name_that_is_a_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ideogram_q8.commands.options import check_new_file
    from ideogram_q8.errors import RequestError

    check_new_file(tmp_path / "aux.png", ".png")
    monkeypatch.setattr(machine, "here", windows())
    with pytest.raises(RequestError, match=r"--out is .*aux\.png: Windows keeps this name for a device; choose another name"):
        check_new_file(tmp_path / "aux.png", ".png")
    with pytest.raises(ResourceError, match="Windows keeps this name for a device"):
        check_target(tmp_path / "nul", (), overwrite=False)


class _Held(Windows):
    """Windows, on which somebody has the target open for so many tries."""

    PAUSE_SECONDS = 0.0

    def __init__(self, tries: int) -> None:
        super().__init__(lambda name: {"kernel32": Kernel32()}[name])
        self.left = tries


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch):
    """Makes a system of it, on which a rename is refused so many times."""

    def hold(tries: int) -> _Held:
        system, rename = _Held(tries), Path.replace

        def replace(self: Path, target: Path) -> Path:
            if system.left > 0:
                system.left -= 1
                raise PermissionError(
                    errno.EACCES, "The process cannot access the file because it is being used by another process"
                )
            return rename(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        monkeypatch.setattr(machine, "here", system)
        return system

    return hold


def test_a_file_that_is_open_for_a_moment_is_replaced(tmp_path: Path, held) -> None:
    system = held(_Held.TRIES - 1)
    (tmp_path / "new").write_text("new", encoding="utf-8")
    (tmp_path / "old").write_text("old", encoding="utf-8")
    system.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text(encoding="utf-8") == "new" and system.left == 0


def test_a_file_that_stays_open_is_named(tmp_path: Path, held) -> None:
    system = held(10**6)
    (tmp_path / "new").touch()
    with pytest.raises(ResourceError, match=r"old cannot be replaced: another program has it open.*close what uses it"):
        system.replace(tmp_path / "new", tmp_path / "old")


def test_a_picture_that_a_viewer_has_open_leaves_the_old_one(tmp_path: Path, held) -> None:
    from PIL import Image

    from ideogram_q8.formats.png import write_png
    from tests.test_png import METADATA

    path = tmp_path / "star.png"
    write_png(path, Image.new("RGB", (64, 64)), METADATA)
    before = path.read_bytes()
    held(10**6)
    with pytest.raises(ResourceError, match="star.png cannot be replaced"):
        write_png(path, Image.new("RGB", (64, 64), "red"), METADATA)
    assert [entry.name for entry in tmp_path.iterdir()] == ["star.png"] and path.read_bytes() == before


def _write(folder: Path, text: str, overwrite: bool = False) -> None:
    with new_folder(folder, ("a",), overwrite) as partial:
        (partial / "a").write_text(text, encoding="utf-8")


def test_on_windows_a_folder_appears_whole_and_one_run_keeps_the_other_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "here", windows())
    out = tmp_path / "out"
    with new_folder(out, ("a",)) as partial:
        (partial / "a").write_text("1", encoding="utf-8")
        with pytest.raises(ArtifactError, match="another run is writing"), new_folder(out, ("a",)):
            pass
    _write(out, "2", overwrite=True)
    assert (out / "a").read_text(encoding="utf-8") == "2"


def test_an_artifact_that_the_app_has_open_stays(tmp_path: Path, held) -> None:
    out = tmp_path / "out"
    _write(out, "1")
    held(10**6)
    with pytest.raises(ResourceError, match=r"\.out\.old cannot be replaced|out cannot be replaced"):
        _write(out, "2", overwrite=True)
    assert (out / "a").read_text(encoding="utf-8") == "1"


def test_a_system_without_locks_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="locks no folders"):
        System().lock(tmp_path)


def test_waiting_ends_with_ctrl_c() -> None:
    """On Windows a wait without an end is not interrupted, so none is asked for."""

    class Event(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None and timeout <= 1
            self.waits += 1
            if self.waits == 3:
                raise KeyboardInterrupt
            return False

    with pytest.raises(KeyboardInterrupt):
        windows().wait(Event())


PLACES = {
    "os.sysconf", "os.sched_getaffinity", "os.fork", "os.statvfs", "os.posix_fadvise", "os.getuid", "os.geteuid", "os.O_DIRECTORY",
    "os.uname", "os.getloadavg", "os.nice", "os.mkfifo", "sys.platform", "os.name", "os.replace", "os.rename", "platform.processor",
}  # fmt: skip
MODULES = {"fcntl", "resource", "msvcrt", "winreg", "pwd", "grp", "termios"}


def test_what_differs_between_systems_is_in_one_place() -> None:
    import ast

    root = Path(machine.__file__).parents[2]
    for path in [*root.glob("ideogram_q8/**/*.py"), *root.glob("publish/*.py"), root / "app.py"]:
        if path == Path(machine.__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert '"/proc' not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in PLACES, f"{path}:{node.lineno}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                assert not MODULES & set(names), f"{path}:{node.lineno}"
