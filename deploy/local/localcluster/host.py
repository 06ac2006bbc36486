"""Small questions to the host: when a process began, which boot this is, what is mounted."""

import ctypes
from pathlib import Path

_DETACH = 2


def start_time(pid: int) -> str | None:
    """Return when a process began, in ticks; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def boot_id() -> str:
    """Return the identity of this boot: pids of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def mounts_below(folder: Path) -> list[str]:
    """Return the mount points strictly below a folder, the latest first."""
    prefix = f"{folder}/"
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        if place.startswith(prefix):
            found.append(place)
    return found[::-1]


def unmount_below(folder: Path) -> int:
    """Unmount everything in a folder, lazily what is busy; return how many."""
    libc = ctypes.CDLL(None, use_errno=True)
    gone = 0
    for _ in range(3):
        places = mounts_below(folder)
        for place in places:
            if libc.umount2(place.encode(), 0) == 0 or libc.umount2(place.encode(), _DETACH) == 0:
                gone += 1
        if not places:
            break
    return gone
