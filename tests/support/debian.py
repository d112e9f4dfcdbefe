"""Programs that pip can't bring, for tests marked `process`: from the PATH, else from Debian by apt, as root."""

import os
import shutil
import subprocess
from functools import cache

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian's servers are in /usr/sbin


@cache
def program(name: str, *, package: str, elsewhere: str = "") -> str:
    """The path of a program; it is installed if it is missing and that is possible.

    `elsewhere`: how to get it on other systems. Raises RuntimeError, which says how to get it, if it can't be had.
    """
    found = shutil.which(name, path=_PATH)
    if found is not None:
        return found
    how = f"the tests of `make check` need {name}: install it (apt install {package}"
    how = f"{how}{elsewhere and ', ' + elsewhere}), or run them as root on Debian or Ubuntu, where they install it"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RuntimeError(how)
    said = _install(package)
    found = shutil.which(name, path=_PATH)
    if found is None:
        message = f"{how}; apt-get said: {said}"
        raise RuntimeError(message)
    return found


def _install(package: str) -> str:
    """What apt-get said at the end."""
    # parallel workers wait for each other's apt; the package's own service is not started
    settings = ["-o", "DPkg::Lock::Timeout=300", "-y", "-q", "--no-install-recommends"]
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-q"], env=environ, capture_output=True, check=False)
    command = ["apt-get", "install", *settings, package]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    return (done.stderr or done.stdout)[-500:]
