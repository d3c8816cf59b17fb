"""One QEMU process: started with descriptors for its monitor and for the agent, gone with us."""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess

from . import Impossible, MachineError

PROGRAM = "qemu-system-x86_64"
MEMORY = 1024 << 20
SHARES = 4
PR_SET_PDEATHSIG = 1
# Without nested paging by five levels; anything else that the emulator has. The snapshot belongs to
# these words.
MACHINE = ["-machine", "pc,memory-backend=ram,usb=off,vmport=off", "-accel", "tcg,thread=multi",
           "-cpu", "max,la57=off", "-smp", "2", "-m", f"{MEMORY >> 20}"]


def identity():
    """The emulator's build, to which a snapshot belongs."""
    program = shutil.which(PROGRAM)
    if not program:
        raise Impossible(f"{PROGRAM} is missing: apt-get install qemu-system-x86")
    file = os.stat(program)
    return f"{file.st_size} {file.st_mtime_ns}"


def die_with_parent(parent):
    """For the child: the kernel ends it when this program ends, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Qemu:
    """A machine. `directory` holds disk, kernel, initrd and, where there is a snapshot, memory."""

    def __init__(self, directory, console, *, restore, shares=()):
        self.monitor, monitor = socket.socketpair()
        self.agent, agent = socket.socketpair()
        self.console = console
        words = [PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", *MACHINE]
        words += self.memory(directory, restore) + self.disk(directory, restore)
        words += self.boot(directory) + self.ports(monitor, agent)
        words += self.shares(directory, list(shares))
        words += ["-incoming", "defer"] if restore else []
        parent = os.getpid()
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            pass_fds=(monitor.fileno(), agent.fileno()), start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent))
        monitor.close()
        agent.close()
        self.replies = self.monitor.makefile("r", encoding="utf-8")
        self.read_monitor("QMP")
        self.ask("qmp_capabilities")

    @staticmethod
    def memory(directory, restore):
        """Memory in a file: written by what becomes the snapshot, copied on write by what it serves."""
        share = "off" if restore else "on"
        path = os.path.join(directory, "memory")
        return ["-object", f"memory-backend-file,id=ram,size={MEMORY},mem-path={path},share={share}"]

    @staticmethod
    def disk(directory, restore):
        """The disk; a restored machine writes to a file of its own, without a name."""
        path = os.path.join(directory, "disk")
        own = ",snapshot=on" if restore else ""
        return ["-drive", f"file={path},format=raw,if=none,id=disk,cache=unsafe{own}",
                "-device", "virtio-blk-pci,drive=disk"]

    @staticmethod
    def boot(directory):
        """The kernel, also where it runs already: the machine's tables have to be the same."""
        with open(os.path.join(directory, "cmdline"), encoding="utf-8") as file:
            words = file.read()
        return ["-kernel", f"{directory}/vmlinux", "-initrd", f"{directory}/initrd",
                "-append", words, "-serial", "stdio"]

    @staticmethod
    def ports(monitor, agent):
        """The monitor and the agent's port."""
        return ["-chardev", f"socket,id=monitor,fd={monitor.fileno()}",
                "-mon", "chardev=monitor,mode=control",
                "-chardev", f"socket,id=agent,fd={agent.fileno()}",
                "-device", "virtio-serial-pci",
                "-device", "virtserialport,chardev=agent,name=agent",
                "-device", "virtio-rng-pci"]

    @staticmethod
    def shares(directory, shares):
        """Folders of the host; there are always as many, of which some are empty."""
        words = []
        empty = os.path.join(directory, "empty")
        for number in range(SHARES):
            path, writable = shares[number] if number < len(shares) else (empty, False)
            quoted = path.replace(",", ",,")
            access = "off" if writable else "on"
            words += ["-fsdev", f"local,id=fs{number},path={quoted},security_model=passthrough,"
                                f"readonly={access},multidevs=remap",
                      "-device", f"virtio-9p-pci,fsdev=fs{number},mount_tag=share{number}"]
        return words

    def read_monitor(self, *wanted):
        """Reads the monitor up to a message with one of these members."""
        for line in self.replies:
            message = json.loads(line)
            if any(name in message for name in wanted):
                return message
        raise MachineError(f"{PROGRAM} ended: {self.last_words()}")

    def ask(self, command, **arguments):
        """Gives the monitor a command."""
        words = {"execute": command, "arguments": arguments}
        self.monitor.sendall(json.dumps(words).encode() + b"\n")
        message = self.read_monitor("return", "error")
        if "error" in message:
            raise MachineError(f"{PROGRAM}: {command}: {message['error']['desc']}")
        return message["return"]

    def ignore_shared_memory(self):
        """Leaves memory out of the snapshot: its file is all there has to be."""
        self.ask("migrate-set-capabilities",
                 capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def last_words(self):
        """The end of what the console got."""
        size = os.fstat(self.console.fileno()).st_size
        text = os.pread(self.console.fileno(), 2000, max(0, size - 2000))
        return text.decode(errors="replace").strip() or "without a word"

    def end(self):
        """Switches it off."""
        self.process.kill()
        self.process.wait()
