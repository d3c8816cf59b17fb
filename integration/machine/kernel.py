"""Debian's kernel for the guest: its modules, a decompressed vmlinux, and an initrd.

QEMU boots the decompressed kernel through its PVH entry, which takes half the time of the bzImage:
decompression is what an emulated processor is worst at.
"""

import glob
import lzma
import os
import shutil
import struct
import subprocess

from . import MachineError, apt, guest_file

# What a virtual machine for tests of containers can need, of /lib/modules/VERSION/kernel.
KEPT = """
    arch/x86/crypto block crypto fs lib net drivers/block drivers/char drivers/infiniband/core
    drivers/infiniband/sw drivers/md drivers/net/*.ko* drivers/net/[im]*vlan* drivers/virtio
""".split()
# What the root file system is on.
BOOT_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")

COMMAND_LINE = ("root=/dev/vda rw quiet loglevel=4 console=ttyS0 panic=-1 psi=1 mitigations=off "
                "audit=0 net.ifnames=0 systemd.show_status=0 systemd.service_watchdogs=0 ")
APPARMOR, SELINUX = "security=apparmor", "security=selinux selinux=1 enforcing=0"


def build(variant, tree, out, scratch):
    """Puts modules into the guest's tree, and `vmlinux`, `initrd` and `cmdline` into `out`."""
    unpacked = os.path.join(scratch, "kernel")
    packages = apt.Apt(variant.kernel, scratch)
    packages.unpack(packages.dependency("linux-image-amd64", "linux-image-"), unpacked)
    image = glob.glob(os.path.join(unpacked, "boot/vmlinuz-*"))[0]
    version = os.path.basename(image).removeprefix("vmlinuz-")
    copy_modules(glob.glob(f"{unpacked}/**/lib/modules/{version}", recursive=True)[0], tree, version)
    decompress(image, os.path.join(out, "vmlinux"))
    make_initrd(tree, version, os.path.join(out, "initrd"), scratch)
    with open(os.path.join(out, "cmdline"), "w", encoding="utf-8") as file:
        file.write(COMMAND_LINE + (SELINUX if variant.selinux else APPARMOR))


def copy_modules(source, tree, version):
    """The modules that are kept, unpacked, with their index."""
    target = os.path.join(tree, "usr/lib/modules", version)
    for pattern in KEPT:
        for path in glob.glob(os.path.join(source, "kernel", pattern)):
            place = os.path.join(target, os.path.relpath(path, source))
            copy = shutil.copytree if os.path.isdir(path) else shutil.copy
            os.makedirs(os.path.dirname(place), exist_ok=True)
            copy(path, place)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        shutil.copy(os.path.join(source, name), target)
    for path in glob.glob(f"{target}/**/*.ko.xz", recursive=True):
        with lzma.open(path) as packed, open(path.removesuffix(".xz"), "wb") as module:
            shutil.copyfileobj(packed, module)
        os.unlink(path)
    apt.output("chroot", tree, "depmod", version)


def decompress(image, out):
    """The ELF file within a bzImage: Documentation/arch/x86/boot.rst, fields of protocol 2.08."""
    with open(image, "rb") as file:
        data = file.read()
    sectors, = struct.unpack_from("<B", data, 0x1F1)
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = (sectors + 1) * 512 + offset
    # The last four bytes are the size of what is compressed.
    payload = data[start:start + length - 4]
    if payload.startswith(b"\xfd7zXZ"):
        kernel = lzma.decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        kernel = subprocess.run(["zstd", "-dc"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    else:
        raise MachineError(f"{image}: compressed in an unknown way: {payload[:4].hex()}")
    with open(out, "wb") as file:
        file.write(kernel)


def make_initrd(tree, version, out, scratch):
    """busybox, the modules for the root file system in their order, and guest/init."""
    root = os.path.join(scratch, "initrd")
    for name in ("bin", "dev", "modules", "root"):
        os.makedirs(os.path.join(root, name))
    busybox = os.path.join(tree, "usr/bin/busybox")
    shutil.copy(busybox, os.path.join(root, "bin/busybox"))
    for number, path in enumerate(boot_modules(tree, version)):
        shutil.copy(tree + path, os.path.join(root, f"modules/{number:02}-{os.path.basename(path)}"))
    init = os.path.join(root, "init")
    with open(init, "w", encoding="utf-8") as file:
        file.write(guest_file("init"))
    os.chmod(init, 0o755)
    names = subprocess.run(["find", "."], cwd=root, stdout=subprocess.PIPE, check=True).stdout
    with open(out, "wb") as file:
        subprocess.run([busybox, "cpio", "-o", "-H", "newc"], cwd=root, input=names, stdout=file,
                       stderr=subprocess.DEVNULL, check=True)


def boot_modules(tree, version):
    """Paths of the modules, each after those it depends on."""
    paths = []
    for name in BOOT_MODULES:
        shown = apt.output("chroot", tree, "modprobe", "-S", version, "--show-depends", name)
        for line in shown.splitlines():
            action, *rest = line.split()
            if action == "insmod" and rest[0] not in paths:
                paths.append(rest[0])
    return paths
