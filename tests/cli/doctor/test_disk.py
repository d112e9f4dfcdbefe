from pathlib import Path

import pytest

from monitor.cli.doctor.database import HostInfo, check_disk, inspect_host, mount_of
from monitor.cli.doctor.findings import Level
from monitor.cli.doctor.locations import SettingLocation

MOUNTS = """\
640 607 0:62 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l
650 640 259:1 /volumes/d /data rw,relatime - ext4 /dev/nvme0n1p1 rw
651 640 0:70 / /data/scratch rw - tmpfs tmpfs rw,size=64k
652 640 259:1 /v /my\\040volume rw - xfs /dev/sdb rw
653 640 0:71 / /covered rw - tmpfs tmpfs rw
654 640 259:1 /w /covered rw - ext4 /dev/sdb rw
655 640 259:1 /var/lib/kubelet/pods/0b5c/volumes/kubernetes.io~empty-dir/scratch /scratch rw - ext4 /dev/sdb rw
656 640 259:1 /var/lib/kubelet/pods/0b5c/volumes/kubernetes.io~csi/pvc-1/mount /claim rw - ext4 /dev/sdc rw
657 640 259:1 /var/lib/docker/volumes/{unnamed}/_data /unnamed rw - ext4 /dev/sdb rw
658 640 259:1 /var/lib/docker/volumes/monitor/_data /named rw - ext4 /dev/sdb rw
659 640 0:72 / /share rw - nfs4 server:/export rw
nonsense
""".replace("{unnamed}", "0123456789abcdef" * 4)
AT = SettingLocation(setting="database", where="monitor.toml, line 1")

FILE_SYSTEMS = {
    "the container's own": ("/app/monitor.db", "overlay"),
    "a volume": ("/data/monitor.db", "ext4"),
    "the deepest mount counts": ("/data/scratch/monitor.db", "tmpfs"),
    "a name that begins alike": ("/database/monitor.db", "overlay"),
    "a space in the mount point": ("/my volume/monitor.db", "xfs"),
    "of two on one point the later": ("/covered/monitor.db", "ext4"),
}


@pytest.mark.parametrize(("path", "kind"), FILE_SYSTEMS.values(), ids=FILE_SYSTEMS)
def test_the_file_system_is_that_of_the_deepest_mount(path, kind):
    assert mount_of(Path(path), MOUNTS).kind == kind


LOST = {
    "overlay": ("/app/monitor.db", MOUNTS, "on this container's own disk (overlay)", "lost when it is replaced"),
    "tmpfs": ("/data/scratch/monitor.db", MOUNTS, "on this container's own disk (tmpfs)", "lost when it is replaced"),
    "a root that is no overlay": (
        "/app/monitor.db", MOUNTS.replace("overlay overlay", "btrfs /dev/sda"), "own disk (btrfs)", "lost",
    ),
    "an emptyDir": ("/scratch/monitor.db", MOUNTS, "on an emptyDir", "deleted with its pod"),
    "a volume without a name": ("/unnamed/monitor.db", MOUNTS, "without a name", "the next container gets a new one"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "mounts", "where", "what"), LOST.values(), ids=LOST)
def test_a_database_that_is_lost_with_its_container_is_a_warning(path, mounts, where, what):
    finding = check_disk(HostInfo(in_container=True, mounts=mounts), Path(path), AT)
    assert finding.level is Level.WARNING
    assert path in finding.message
    assert where in finding.message
    assert what in finding.message
    assert (finding.setting, finding.location) == ("database", "monitor.toml, line 1")
    assert "volume" in finding.remedy
    assert "PostgreSQL" in finding.remedy


@pytest.mark.parametrize("in_container", [True, False], ids=["container", "host"])
def test_a_database_on_a_network_is_a_warning_anywhere(in_container):
    finding = check_disk(HostInfo(in_container=in_container, mounts=MOUNTS), Path("/share/monitor.db"), AT)
    assert finding.level is Level.WARNING
    assert "(nfs4)" in finding.message
    assert "PostgreSQL" in finding.remedy


FINE = {
    "on a volume": ("/data/monitor.db", HostInfo(in_container=True, mounts=MOUNTS)),
    "on a claim": ("/claim/monitor.db", HostInfo(in_container=True, mounts=MOUNTS)),
    "on a named volume": ("/named/monitor.db", HostInfo(in_container=True, mounts=MOUNTS)),
    "not in a container": ("/app/monitor.db", HostInfo(in_container=False, mounts=MOUNTS)),
    "nothing is known": ("/data/monitor.db", HostInfo(in_container=True)),
}


@pytest.mark.parametrize(("path", "host"), FINE.values(), ids=FINE)
def test_any_other_disk_has_no_finding(path, host):
    assert check_disk(host, Path(path), AT) is None


MARKERS = {
    "nothing": ((), {}, False),
    "docker": ((".dockerenv",), {}, True),
    "podman": (("run/.containerenv",), {}, True),
    "kubernetes": ((), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
}


@pytest.mark.parametrize(("files", "environ", "in_container"), MARKERS.values(), ids=MARKERS)
def test_a_container_is_recognised_by_its_markers(tmp_path, files, environ, in_container):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS, encoding="utf-8")
    assert inspect_host(environ, tmp_path) == HostInfo(in_container=in_container, mounts=MOUNTS)


def test_without_proc_no_mounts_are_known(tmp_path):
    assert inspect_host({}, tmp_path).mounts == ""
