"""The machine at rest: kernel, disk, and a snapshot of memory and devices."""

import os
import shlex
import shutil
import time

from . import GUEST, MachineError, apt, kernel
from .qemu import Qemu
from .session import Agent

DISK_SIZE = "4G"
BOOT_LIMIT = 900
# Which file gets which SELinux label.
CONTEXTS = "/etc/selinux/default/contexts/files/file_contexts"


def make_disk(variant, tar, new, scratch):
    """Kernel and file system. The journal is left out: nothing outlives a run."""
    tree = os.path.join(scratch, "tree")
    os.mkdir(tree)
    apt.output("tar", "-C", tree, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xf", tar)
    kernel.build(variant, tree, new, scratch)
    shutil.copy(f"{GUEST}/agent.py", f"{tree}/usr/local/lib/agent.py")
    shutil.copy(f"{GUEST}/agent.service", f"{tree}/etc/systemd/system/agent.service")
    apt.output("chroot", tree, "systemctl", "enable", "agent.service")
    if variant.selinux:
        # It sets labels by way of /proc.
        apt.output("unshare", "--mount", "sh", "-ec", 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"',
                   tree, "setfiles", "-F", CONTEXTS, "/")
    disk = os.path.join(new, "disk")
    apt.output("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, disk, DISK_SIZE)


def freeze(new, log):
    """Boots it, waits until it is quiet, and writes down the state of its devices."""
    memory = os.path.join(new, "memory")
    with open(memory, "wb"):
        pass
    qemu = Qemu(new, log, restore=False)
    try:
        Agent(qemu, BOOT_LIMIT).wait_until_ready()
        qemu.ask("stop")
        qemu.ignore_shared_memory()
        qemu.ask("migrate", uri="exec:cat > " + shlex.quote(os.path.join(new, "devices")))
        while (status := qemu.ask("query-migrate")["status"]) != "completed":
            if status == "failed":
                raise MachineError(f"the snapshot failed: {qemu.ask('query-migrate')}")
            time.sleep(0.05)
    finally:
        qemu.end()
