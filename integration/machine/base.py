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
SELINUX = ["selinux-policy-default"]
SETTINGS = os.path.join(GUEST, "setup")
UNUSED = ("doc", "man", "locale", "info", "lintian", "i18n", "bash-completion")


def packages(variant):
    """Names of what is installed, beside what they depend on."""
    return PACKAGES + (SELINUX if variant.selinux else [])


def ingredients(variant):
    """What the archive is made of."""
    with open(SETTINGS, encoding="utf-8") as file:
        settings = file.read()
    return [apt.codename(), *apt.configuration(), *packages(variant), *UNUSED, settings]


def build(variant, archive, log):
    """Makes the archive: about a minute, most of it dpkg's."""
    suite = apt.codename()
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar",
               "--include=" + ",".join(packages(variant)), f"--customize-hook={SETTINGS}",
               '--aptopt=Acquire::Retries "3"', "--skip=check/empty"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNUSED]
    done = subprocess.run([*command, suite, archive, *apt.sources(suite)], check=False,
                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if done.returncode != 0:
        raise MachineError(f"mmdebstrap failed: {log.name}")
