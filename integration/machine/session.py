"""A command in a machine that is restored from its snapshot."""

import json
import os
import shlex
import struct
import tempfile
import time

from . import MachineError
from .qemu import Qemu

# Tests multiply their time limits by SLOWNESS.
ENVIRONMENT = {"SLOWNESS": "10", "RUST_BACKTRACE": "0"}


class TimeLimit(MachineError):
    """The command took longer than it may."""


class Agent:
    """The other end of the agent's port, for as long as `limit` seconds."""

    def __init__(self, qemu, limit):
        self.qemu = qemu
        self.limit = limit
        self.end = time.monotonic() + limit

    def read(self, size):
        """Exactly so many bytes."""
        data = b""
        while len(data) < size:
            self.qemu.agent.settimeout(max(0.001, self.end - time.monotonic()))
            try:
                piece = self.qemu.agent.recv(size - len(data))
            except TimeoutError as err:
                raise TimeLimit(f"no end within {self.limit} s") from err
            if not piece:
                raise MachineError(f"the machine went down: {self.qemu.last_words()}")
            data += piece
        return data

    def frame(self):
        """The next frame: its letter and its bytes."""
        kind, size = struct.unpack(">cI", self.read(5))
        return kind, self.read(size)

    def wait_until_ready(self):
        """Waits for the machine's first frame."""
        kind, _ = self.frame()
        if kind != b"r":
            raise MachineError(f"the agent said {kind}")

    def ask(self, request):
        """Sends a request and passes the output on; returns the exit code."""
        self.qemu.agent.sendall(json.dumps(request).encode() + b"\n")
        while True:
            kind, data = self.frame()
            if kind == b"x":
                return struct.unpack(">I", data)[0]
            if kind == b"f":
                raise MachineError(data.decode())
            write_all(1 if kind == b"o" else 2, data)


def write_all(fd, data):
    """Writes all of it, also to a pipe that is full."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest):]


def wake(qemu, directory):
    """Restores the devices' state; memory and disk are there already."""
    qemu.ignore_shared_memory()
    path = os.path.join(directory, "devices")
    qemu.ask("migrate-incoming", uri="exec:cat " + shlex.quote(path))
    while qemu.ask("query-status")["status"] == "inmigrate":
        time.sleep(0.005)
    qemu.ask("cont")


def run(directory, argv, *, user, shares, cwd, limit):
    """Runs a command in a machine of its own; returns its exit code."""
    with tempfile.TemporaryFile() as console:
        qemu = Qemu(directory, console, restore=True, shares=shares)
        try:
            wake(qemu, directory)
            mounts = [{"tag": f"share{number}", "path": path, "writable": writable}
                      for number, (path, writable) in enumerate(shares)]
            return Agent(qemu, limit).ask({
                "argv": argv, "env": ENVIRONMENT, "cwd": cwd, "user": user, "shares": mounts,
                "time": time.time(), "seed": os.urandom(32).hex()})
        finally:
            qemu.end()
