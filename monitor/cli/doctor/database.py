"""Checks our own database: reachable, writable, at this program's schema (SQLite is upgraded), on a safe disk."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.cli.doctor.findings import Finding, Level, finding_at, with_full_stop
from monitor.cli.doctor.locations import SettingLocation
from monitor.database import schema
from monitor.database.engine import connect, connect_read_only, reading
from monitor.database.schema import FOREIGN_REMEDY, FOREIGN_TEXT, SchemaFit, SchemaVersion, check_write_access
from monitor.database.urls import is_sqlite, location_of, parse
from monitor.errors import StoreError

_UPGRADE = "ingestion-monitor db upgrade"
_UNUSABLE = frozenset({SchemaFit.NEWER, SchemaFit.FOREIGN})


def check_database(url: str, at: SettingLocation, *, option: str = "") -> Finding:
    """Connects, upgrades a SQLite file, and tries to write; no row is changed. `url` is a secret."""
    where = location_of(parse(url))
    try:
        before = _read_version(url)
        on_server = not is_sqlite(parse(url))
        if on_server and before.fit is SchemaFit.MISSING and (lacking := _missing_privilege(url)):
            return finding_at(at, "database", Level.PROBLEM, f"{where} {lacking}.")
        if before.fit in _UNUSABLE or (before.fit is not SchemaFit.CURRENT and on_server):
            return _wrong_schema(before, where, at, option)
        steps = schema.upgrade(url)
        _prove_writable(url)
    except StoreError as error:
        return finding_at(at, "database", Level.PROBLEM, with_full_stop(str(error)))
    if not steps:
        message = f"{where} is readable and writable; its schema is current ({before.head})."
    elif before.fit is SchemaFit.MISSING:
        message = f"{where} did not exist and was created, as `check` would do; it is writable."
    else:
        message = f"{where} was upgraded from schema {before.current} to {before.head}, as `check` would do."
    return Finding(part="database", level=Level.OK, message=message)


def check_queue(url: str, at: SettingLocation, *, option: str = "") -> Finding | None:
    """Whether the queue of workers fits; None if the database can't be read, which is another finding."""
    from monitor.fleet import queue_schema

    engine = connect_read_only(url)
    try:
        with reading(engine) as conn:
            version = queue_schema.current(conn)
    except StoreError:
        return None
    finally:
        engine.dispose()
    problem = queue_schema.describe(version, parse(url))
    if problem is None:
        message = f"the queue of workers is current ({version.current})."
        return Finding(part="queue", level=Level.OK, message=message)
    message, _, remedy = problem.partition("; ")
    if version.fit in _UNUSABLE:
        return finding_at(at, "queue", Level.PROBLEM, f"{message}.", remedy)
    return finding_at(at, "queue", Level.PROBLEM, f"{message}.", command=f"{_UPGRADE}{option}")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database, absolute and without symbolic links; None for a server."""
    parsed = parse(url)
    return Path(str(parsed.database)).resolve() if is_sqlite(parsed) else None


def _read_version(url: str) -> SchemaVersion:
    engine = connect_read_only(url)
    try:
        return schema.current(engine)
    finally:
        engine.dispose()


def _missing_privilege(url: str) -> str | None:
    engine = connect_read_only(url)
    try:
        with reading(engine) as conn:
            return schema.missing_privilege(conn)
    finally:
        engine.dispose()


def _prove_writable(url: str) -> None:
    engine = connect(url)
    try:
        check_write_access(engine)
    finally:
        engine.dispose()


def _wrong_schema(version: SchemaVersion, where: str, at: SettingLocation, option: str) -> Finding:
    if version.fit is SchemaFit.NEWER:
        message = f"{where} has the schema {version.current}, newer than this program's ({version.head})."
        remedy = "install the newer ingestion-monitor, or name another database"
        return finding_at(at, "database", Level.PROBLEM, message, remedy)
    if version.fit is SchemaFit.FOREIGN:
        return finding_at(at, "database", Level.PROBLEM, f"{where} {FOREIGN_TEXT}.", FOREIGN_REMEDY)
    state = "is empty" if version.current is None else f"has the older schema {version.current}"
    message = f"{where} {state}; this program needs {version.head}."
    return finding_at(at, "database", Level.PROBLEM, message, command=f"{_UPGRADE}{option}")


_EPHEMERAL_FILE_SYSTEMS = frozenset({"overlay", "overlayfs", "aufs", "fuse-overlayfs", "tmpfs", "ramfs"})
_DISK_FILE_SYSTEMS = frozenset({"ext4", "xfs"})
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "afs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"})
_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
_UNNAMED_VOLUME = re.compile(r"/volumes/[0-9a-f]{64}/_data(/|$)")
_REMEDY = "mount a volume and name a file on it, or use PostgreSQL"
_UNSAFE_TEXT = "where SQLite's locks and shared memory are unreliable: the file may be damaged"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostInfo:
    """The machine that this runs on."""

    in_container: bool
    mounts: str = ""
    """`/proc/self/mountinfo`; empty where there is none."""


def inspect_host(environ: Mapping[str, str], root: Path = Path("/")) -> HostInfo:
    """Whether this is a container (Docker, Podman, Kubernetes), and its mounts."""
    has_marker = any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv"))
    try:
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        mounts = ""  # not Linux, so no such container either
    return HostInfo(in_container=has_marker or "KUBERNETES_SERVICE_HOST" in environ, mounts=mounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount."""

    point: Path
    kind: str
    """The type of its file system, such as `ext4`."""
    root: str
    """The folder of that file system which is mounted: for a bind mount, such as any volume, where its files are."""


def check_disk(host: HostInfo, path: Path, place: SettingLocation) -> Finding | None:
    """A warning if the SQLite file would be lost with its container, or if its locks are unreliable."""
    mount = mount_of(path, host.mounts)
    if mount is None:
        return None
    loss = _data_loss(mount) if host.in_container else None
    if loss is None and mount.kind not in _NETWORK_FILE_SYSTEMS:
        return None
    if loss:
        return finding_at(place, "disk", Level.WARNING, f"{path} is {loss}.", _REMEDY)
    message = f"{path} is on a network file system ({mount.kind}), {_UNSAFE_TEXT}."
    return finding_at(place, "disk", Level.WARNING, message, "name a file on a disk of this machine, or use PostgreSQL")


def _data_loss(mount: Mount) -> str | None:
    """Why the files of a mount are lost when the container is replaced; None if they are not."""
    if _EMPTY_DIR in mount.root:
        return "on an emptyDir, which is deleted with its pod: history and incidents are lost"
    if _UNNAMED_VOLUME.search(mount.root):
        return "on a volume without a name: the next container gets a new one, without history and incidents"
    if mount.kind in _EPHEMERAL_FILE_SYSTEMS or (mount.point == Path("/") and not _is_own_disk(mount)):
        return f"on this container's own disk ({mount.kind}): history and incidents are lost when it is replaced"
    return None


def _is_own_disk(mount: Mount) -> bool:
    """Whether it is a separate disk: a virtual machine made from a container image has that, and the marker."""
    return mount.kind in _DISK_FILE_SYSTEMS and mount.root == "/"


def mount_of(path: Path, mounts: str) -> Mount | None:
    """The mount of an absolute path without symbolic links; None if it is not listed.

    In `/proc/self/mountinfo` (proc(5)), root and mount point are the fourth and fifth field; the type follows " - ".
    """
    best: Mount | None = None
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5 or not after.split():
            continue
        root, point = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), field) for field in fields[3:5])
        found = Mount(point=Path(point), kind=after.split()[0], root=root)
        # of two mounts on one point the later one covers the other
        if path.is_relative_to(found.point) and (best is None or len(found.point.parts) >= len(best.point.parts)):
            best = found
    return best
