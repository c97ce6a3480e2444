"""What real machines need of the machine on which they run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROGRAMS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "chroot": "coreutils",
    "tar": "tar",
    "dpkg": "dpkg",
    "apt-get": "apt",
}
"""Each program, and the Debian package that has it."""

_HIERARCHIES = ("cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
"""The hierarchies in which containerd and the kubelet account for containers."""

CGROUPS = Path("/sys/fs/cgroup")


def obstacle() -> str | None:
    """Return why real machines cannot run here, with the remedy; None if they can."""
    if sys.platform != "linux":
        return f"real machines are namespaces of a Linux kernel, and this is {sys.platform}"
    if os.geteuid() != 0:
        return "real machines need root, for namespaces, mounts and cgroups: start it as root, or use light ones"
    for program, package in _PROGRAMS.items():
        if not shutil.which(program):
            return f"real machines need {program}: on Debian and Ubuntu apt install {package}"
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        return "real machines need overlayfs, which this kernel has not got (modprobe overlay)"
    if missing := [name for name in _HIERARCHIES if not (CGROUPS / name).is_dir()]:
        return f"real machines need cgroup v1 hierarchies (also in hybrid mode): no {CGROUPS}/{missing[0]} here"
    tried = subprocess.run(
        ["unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    if tried.returncode != 0:
        return f"this kernel gives no namespaces to machines: {tried.stderr.strip()}"
    return None
