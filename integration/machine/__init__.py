"""A Debian machine with unified cgroup v2 and systemd as PID 1, in QEMU without KVM.

    apt.py       the host's Debian sources, and what is fetched through them
    base.py      the root file system: packages and settings
    kernel.py    Debian's kernel: unpacked, decompressed, with an initrd
    qemu.py      one QEMU process and its monitor
    prepare.py   disk and snapshot
    cache.py     machines, kept until their ingredients change
    session.py   a command in a machine that is restored from the snapshot
    guest/       what is put into the machine
"""

import os
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
GUEST = os.path.join(HERE, "guest")


class MachineError(Exception):
    """The machine could not be made or used."""


class Impossible(MachineError):
    """No such machine can be made on this host."""


class Variant(NamedTuple):
    """Which machine: Debian's release that the kernel is of, and the security module."""

    kernel: str
    selinux: bool = False


def guest_file(name):
    """The text of a file of guest/."""
    with open(os.path.join(GUEST, name), encoding="utf-8") as file:
        return file.read()
