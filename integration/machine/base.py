"""The guest's root file system as a tar archive, from packages."""

import os
import subprocess

from . import GUEST, MachineError, apt

PACKAGES = """
    systemd systemd-sysv libpam-systemd dbus dbus-user-session udev kmod
    apparmor attr bpftool busybox-static ca-certificates conmon criu crun fuse-overlayfs gcc
    golang-github-containers-common iproute2 iptables jq libc6-dev libcap2-bin netavark podman procps
    python3 runc slirp4netns strace uidmap util-linux zstd
""".split()
SETTINGS = os.path.join(GUEST, "setup")
UNUSED = ("doc", "man", "locale", "info", "lintian", "i18n", "bash-completion")


def ingredients(suite):
    """What the archive is made of."""
    with open(SETTINGS, encoding="utf-8") as file:
        return [suite, *apt.configuration(), *PACKAGES, *UNUSED, file.read()]


def build(suite, archive, log):
    """Makes the archive: about two minutes, most of them dpkg's."""
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar",
               "--include=" + ",".join(PACKAGES), f"--customize-hook={SETTINGS}",
               '--aptopt=Acquire::Retries "3"', "--skip=check/empty"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNUSED]
    done = subprocess.run([*command, suite, archive, *apt.sources(suite)], check=False,
                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode != 0:
        raise MachineError(f"mmdebstrap failed: {log.name}")
