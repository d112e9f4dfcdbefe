"""Whether a SQLite database is on a disk that goes away with its container. It reads what Linux says about mounts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.doctor.places import Place
from monitor.report.doctor import Finding, Level

__all__ = ["Surroundings", "file_system_of", "judge", "look_around"]

_EPHEMERAL = frozenset({"overlay", "overlayfs", "aufs", "fuse-overlayfs", "tmpfs", "ramfs"})
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What kind of machine this is."""

    in_container: bool
    mounts: str = ""
    """`/proc/self/mountinfo`; empty where there is none."""


def look_around(environ: Mapping[str, str], root: Path = Path("/")) -> Surroundings:
    """Finds out whether this is a container (Docker, Podman, Kubernetes), and what is mounted where."""
    marked = any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv"))
    try:
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        mounts = ""  # no Linux: then no container of the kinds above either
    return Surroundings(in_container=marked or "KUBERNETES_SERVICE_HOST" in environ, mounts=mounts)


def judge(surroundings: Surroundings, path: Path, place: Place) -> Finding | None:
    """A warning if the database would be gone with its container; None if there is nothing to say.

    Args:
        surroundings: as found.
        path: of the SQLite file, absolute.
        place: of the setting.
    """
    kind = file_system_of(path, surroundings.mounts) if surroundings.in_container else None
    if kind not in _EPHEMERAL:
        return None
    return Finding(
        part="disk",
        level=Level.WARNING,
        says=f"{path} is on this container's own disk ({kind}): history and incidents are gone when it is replaced.",
        remedy="mount a volume and name a file on it, or use PostgreSQL",
        setting=place.setting,
        place=place.where,
    )


def file_system_of(path: Path, mounts: str) -> str | None:
    """The type of the file system that a path is on, such as `ext4`; None when that is not said.

    Args:
        path: absolute, without symbolic links.
        mounts: `/proc/self/mountinfo` (proc(5)): the mount point is the fifth field, the type follows " - ".
    """
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        before, dash, behind = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5 or not behind.split():
            continue
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        # of two mounts on one point the later one covers the other
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), behind.split()[0])
    return best[1] if best else None
