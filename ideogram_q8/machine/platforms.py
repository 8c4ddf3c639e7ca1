"""What the computer and its operating system are and can do: the one place for everything that differs between Linux, macOS and Windows.

`here` is this computer. Its class knows its system's own ways (/proc, `fcntl`, `vm_stat`, kernel32); code elsewhere calls its methods and
asks for no system's name. Tests put another system's object there, so that what happens on Windows is tried without a Windows.

What this module does not know: graphics cards, but for the driver's version (see `devices` and `nvml`), and torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ideogram_q8.errors import ResourceError

INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "asimddp", "i8mm")
"""Those that decide how fast a processor computes products, by Linux's names."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class HostMemory:
    """The computer's memory in bytes: all of it, what programs can still have, what this process holds; None: the system does not tell."""

    total: int | None = None
    available: int | None = None
    resident: int | None = None


def _answer(*command: str) -> str:
    """What a program prints; nothing where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


class System:
    """What every system can do, and the answers of one that tells nothing. Sub-classes know better."""

    name = "another system"
    has_flash_attention = True
    """Whether builds of torch for CUDA have it here (torch's CMakeLists.txt: USE_FLASH_ATTENTION, not with MSVC)."""
    pins_half = False
    """Whether NVIDIA's driver pins at most half of the computer's memory, as that of Windows does."""
    spills = False
    """Whether NVIDIA's driver goes on in main memory where a card is full ("CUDA - Sysmem Fallback Policy", on by default)."""
    locks_folders = False
    """Whether `lock` works; elsewhere a file beside the folder is locked."""

    def memory(self) -> HostMemory:
        """The computer's memory now."""
        return HostMemory()

    def peak_resident(self) -> int | None:
        """The most bytes that this process held since `reset_peak`, or since its start where that does nothing; None: not told."""
        return None

    def reset_peak(self) -> None:
        """Starts a new peak where the system can."""

    def processor(self) -> str:
        """The name that the processor is sold under."""
        return platform.processor() or platform.machine() or UNKNOWN

    def instructions(self) -> tuple[str, ...]:
        """Names in INSTRUCTIONS that the processor has; empty where the system does not tell."""
        return ()

    def busy_seconds(self) -> float | None:
        """CPU time that all programs have used on the processors that this one may use; None: not told."""
        return None

    def nvidia_driver(self) -> str:
        """The version of NVIDIA's driver, by nvidia-smi; "unknown" where there is none."""
        lines = _answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
        return lines[0][:200] if lines else UNKNOWN

    def lock(self, folder: Path) -> int:
        """A descriptor of `folder` that locks it until it is closed. Raises BlockingIOError: another holds it; OSError: none can."""
        raise OSError(errno.ENOLCK, f"{self.name} locks no folders", str(folder))

    def sync(self, folder: Path) -> None:
        """Waits until the names in `folder` are on the disk, where a system has a call for that."""

    def replace(self, source: Path, target: Path) -> None:
        """Renames a file, or a folder where no `target` is. Raises OSError; ResourceError: another program holds one of them open."""
        source.replace(target)

    def signal_group(self, pid: int, number: int) -> None:
        """Sends a signal to a process's group. Raises ProcessLookupError: there is none; PermissionError."""
        raise ProcessLookupError(f"{self.name} has no groups of processes: signal {number} cannot be sent to that of {pid}")

    def forget(self, _file: Path) -> bool:
        """Drops what the system has kept of a file's content in memory; whether it can."""
        return False

    def name_problem(self, name: str) -> str | None:
        """Why the system has no file of this name; None where it may."""
        return "it has a NUL in it" if "\0" in name else None

    def wait(self, event: threading.Event) -> None:
        """Waits until `event` is set, or for Ctrl-C, which raises KeyboardInterrupt.

        In short waits: on Windows a long one is not interrupted before Python 3.14 (github.com/python/cpython/issues/80116).
        """
        while not event.wait(1):
            pass


class Posix(System):
    """What Linux and macOS have in common."""

    name = "POSIX"
    locks_folders = True
    _PEAK_UNIT = 1024

    def peak_resident(self) -> int | None:
        """The most bytes that this process held since its start."""
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * self._PEAK_UNIT

    def lock(self, folder: Path) -> int:
        """Locks with flock, which ends with the process."""
        import fcntl  # not on Windows

        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def signal_group(self, pid: int, number: int) -> None:
        """Calls killpg."""
        os.killpg(pid, number)

    def sync(self, folder: Path) -> None:
        """Calls fsync on the folder."""
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Linux(Posix):
    """Linux: what /proc says below `proc`."""

    name = "Linux"

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self.proc = proc
        self.pins_half = "microsoft" in platform.release().lower()  # WSL2, whose driver is that of Windows

    def memory(self) -> HostMemory:
        """From meminfo and status."""
        system, own = self._sizes("meminfo"), self._sizes("self/status")
        return HostMemory(system.get("MemTotal"), system.get("MemAvailable"), own.get("VmRSS"))

    def peak_resident(self) -> int | None:
        """Since `reset_peak`."""
        return self._sizes("self/status").get("VmHWM") or super().peak_resident()

    def reset_peak(self) -> None:
        """Where /proc may be written."""
        with contextlib.suppress(OSError):
            (self.proc / "self/clear_refs").write_text("5", encoding="ascii")

    def processor(self) -> str:
        """From cpuinfo, which names x86 processors only."""
        return self._cpuinfo("model name") or super().processor()

    def instructions(self) -> tuple[str, ...]:
        """From cpuinfo; ARM's are "Features"."""
        flags = (self._cpuinfo("flags") or self._cpuinfo("Features")).split()
        return tuple(name for name in INSTRUCTIONS if name in flags)

    def busy_seconds(self) -> float | None:
        """From stat, in hundredths: user, nice, system, irq, softirq and steal, not idle, iowait and guests (which are within user)."""
        usable = {f"cpu{i}" for i in os.sched_getaffinity(0)}
        lines = [line.split() for line in self._lines("stat")]
        fields = [words[1:4] + words[6:9] for words in lines if words and words[0] in usable]
        return sum(int(field) for row in fields for field in row) / os.sysconf("SC_CLK_TCK") if fields else None

    def nvidia_driver(self) -> str:
        """From the first line of driver/nvidia/version; WSL has none."""
        return next((line.strip()[:200] for line in self._lines("driver/nvidia/version")), "") or super().nvidia_driver()

    def forget(self, _file: Path) -> bool:
        """Calls posix_fadvise with POSIX_FADV_DONTNEED."""
        with _file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return True

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.proc / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _sizes(self, name: str) -> dict[str, int]:
        """The lines `Name: 12 kB` in bytes."""
        parts = [line.split() for line in self._lines(name)]
        return {p[0].rstrip(":"): int(p[1]) * 1024 for p in parts if len(p) == 3 and p[2] == "kB" and p[1].isdigit()}

    def _cpuinfo(self, key: str) -> str:
        pairs = (line.partition(":") for line in self._lines("cpuinfo"))
        return next((value.strip() for name, _, value in pairs if name.strip() == key), "")


class MacOS(Posix):
    """macOS: what sysctl, vm_stat and ps print; `answer` runs a program and returns what it prints."""

    name = "macOS"
    _PEAK_UNIT = 1

    def __init__(self, answer: Callable[..., str] = _answer) -> None:
        self._answer = answer

    def memory(self) -> HostMemory:
        """What can be had is what is free and what is inactive, as psutil counts it."""
        page = re.search(r"page size of (\d+) bytes", found := self._answer("vm_stat"))
        pages = [re.search(rf"^Pages {kind}:\s+(\d+)", found, re.MULTILINE) for kind in ("free", "inactive")]
        available = sum(int(match[1]) for match in pages if match) * int(page[1]) if page and all(pages) else None
        resident = self._number("ps", "-o", "rss=", "-p", str(os.getpid()))
        return HostMemory(self._number("sysctl", "-n", "hw.memsize"), available, resident and resident * 1024)

    def processor(self) -> str:
        """The name that sysctl gives the processor, such as Apple M2."""
        return self._answer("sysctl", "-n", "machdep.cpu.brand_string").strip() or super().processor()

    def _number(self, *command: str) -> int | None:
        text = self._answer(*command).strip()
        return int(text) if text.isascii() and text.isdigit() else None


class _MemoryStatus(ctypes.Structure):
    """kernel32's MEMORYSTATUSEX."""

    _fields_ = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32)] + [
        (name, ctypes.c_uint64)
        for name in ("total", "available", "_page", "_page_left", "_virtual", "_virtual_left", "_extended")
    ]


class _ProcessMemory(ctypes.Structure):
    """psapi's PROCESS_MEMORY_COUNTERS."""

    _fields_ = [("length", ctypes.c_uint32), ("faults", ctypes.c_uint32)] + [
        (name, ctypes.c_size_t) for name in ("peak", "resident", "_a", "_b", "_c", "_d", "_pagefile", "_pagefile_peak")
    ]


class Windows(System):
    """Windows: what kernel32 says (`library` opens it), names that are devices, and files that cannot be replaced while they are open."""

    name = "Windows"
    has_flash_attention, pins_half, spills = False, True, True
    TRIES, PAUSE_SECONDS = 10, 0.2
    _DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
    """learn.microsoft.com/windows/win32/fileio/naming-a-file"""

    def __init__(self, library: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._library = library

    def memory(self) -> HostMemory:
        """From GlobalMemoryStatusEx and K32GetProcessMemoryInfo."""
        found = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
        own = self._own()
        resident = None if own is None else int(own.resident)
        if not self._kernel32.GlobalMemoryStatusEx(ctypes.byref(found)):
            return HostMemory(resident=resident)
        return HostMemory(int(found.total), int(found.available), resident)

    def peak_resident(self) -> int | None:
        """The most bytes that this process held since its start."""
        own = self._own()
        return None if own is None else int(own.peak)

    def processor(self) -> str:
        """What the registry says, which is what the processor calls itself; `platform` has its family's numbers only."""
        try:
            import winreg  # of Windows only

            path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:  # type: ignore[attr-defined]  # typed for Windows only
                return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()  # type: ignore[attr-defined]
        except (ImportError, OSError):
            return super().processor()

    def replace(self, source: Path, target: Path) -> None:
        """Tries for two seconds: virus scanners and indexers open what is new for a moment. What stays open is somebody's."""
        for _ in range(self.TRIES - 1):
            with contextlib.suppress(PermissionError):
                return super().replace(source, target)
            time.sleep(self.PAUSE_SECONDS)
        try:
            return super().replace(source, target)
        except PermissionError as error:
            raise ResourceError(
                f"{target} cannot be replaced: another program has it open, or it may not be written ({error.strerror}); close what uses "
                "it (the app, a viewer) and try again"
            ) from error

    def name_problem(self, name: str) -> str | None:
        """Names of devices, signs that mean something else, and ends that Windows drops in silence."""
        if self._DEVICES.fullmatch(name):
            return "Windows keeps this name for a device"
        forbidden = sorted({sign for sign in name if sign in '<>:"/\\|?*' or ord(sign) < 32})
        if forbidden:
            return f"Windows allows no {' '.join(repr(sign)[1:-1] for sign in forbidden)} in a name"
        return "Windows drops a dot or space at the end of a name" if name.endswith((".", " ")) else None

    @functools.cached_property
    def _kernel32(self) -> Any:
        found = self._library("kernel32")
        found.GetCurrentProcess.restype = ctypes.c_void_p
        found.K32GetProcessMemoryInfo.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32]
        return found

    def _own(self) -> _ProcessMemory | None:
        found = _ProcessMemory(ctypes.sizeof(_ProcessMemory))
        process = self._kernel32.GetCurrentProcess()
        return found if self._kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(found), found.length) else None


def of(platform_name: str) -> System:
    """The system that Python calls so in `sys.platform`."""
    kinds: dict[str, Callable[[], System]] = {"linux": Linux, "darwin": MacOS, "win32": Windows}
    return kinds.get(platform_name, Posix if os.name == "posix" else System)()


here: System = of(sys.platform)
"""This computer."""
