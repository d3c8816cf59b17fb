"""The guest's end: takes one request, runs its command, and sends its output and exit code.

The host sends a line of JSON; back go frames of a letter, a length (32 bits, big endian) and bytes:
`r` ready for the snapshot, `o` output, `e` error output, `x` exit code, `f` why it could not be run.
"""

import ctypes
import fcntl
import json
import os
import pwd
import selectors
import struct
import subprocess
import time

PORT = "/dev/virtio-ports/agent"
RNDADDENTROPY, RNDRESEEDCRNG = 0x40085203, 0x5207
MS_RDONLY = 1
USER = "user"
# A snapshot is taken of a quiet machine; what is not there after this many seconds never comes.
PATIENCE = 600


class Host:
    """The port to the host."""

    def __init__(self):
        self.port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)

    def send(self, kind, data=b""):
        """Sends a frame."""
        rest = memoryview(kind + struct.pack(">I", len(data)) + data)
        while rest:
            rest = rest[os.write(self.port, rest):]

    def request(self):
        """Waits for the request; a read without a peer at the other end returns nothing."""
        data = b""
        while not data.endswith(b"\n"):
            piece = os.read(self.port, 65536)
            data += piece
            if not piece:
                time.sleep(0.02)
        return json.loads(data)


def prepare():
    """Makes ready what a first command would have to wait for."""
    for words in (
        ("modprobe", "-a", "9p", "9pnet_virtio", "overlay", "fuse", "bfq", "veth", "tun", "nf_tables"),
        ("sh", "-c", "fallocate -l 256M /swap && chmod 600 /swap && mkswap -q /swap && swapon /swap"),
        ("systemctl", "is-system-running", "--wait"),
        ("true",),
    ):
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    end = time.monotonic() + PATIENCE
    while not os.path.exists("/run/user/1000/bus") and time.monotonic() < end:
        time.sleep(0.2)
    os.sync()


def wake(request):
    """What a restored machine cannot know: the time, and something random of its own."""
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    seed = bytes.fromhex(request["seed"])
    with open("/dev/urandom", "wb") as device:
        fcntl.ioctl(device, RNDADDENTROPY, struct.pack("ii", len(seed) * 8, len(seed)) + seed)
        fcntl.ioctl(device, RNDRESEEDCRNG)
    for share in request["shares"]:
        os.makedirs(share["path"], exist_ok=True)
        cache = "none" if share["writable"] else "loose"
        options = f"trans=virtio,version=9p2000.L,msize=512000,cache={cache}"
        mount(share["tag"], share["path"], 0 if share["writable"] else MS_RDONLY, options)


def mount(tag, path, flags, options):
    """mount(2) of a folder of the host; the program of that name would take a while to start."""
    words = [word.encode() for word in (tag, path, "9p", options)]
    if ctypes.CDLL(None, use_errno=True).mount(*words[:3], flags, words[3]) != 0:
        raise OSError(ctypes.get_errno(), "cannot mount a folder of the host", path)


def environment(user, given):
    """A plain login's, and what the host gives."""
    entry = pwd.getpwnam(USER if user else "root")
    runtime = f"/run/user/{entry.pw_uid}"
    env = {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "LANG": "C.UTF-8",
           "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
           "SHELL": "/bin/sh", "TERM": "dumb"}
    env.update(given)
    if user:
        env.update(XDG_RUNTIME_DIR=runtime, DBUS_SESSION_BUS_ADDRESS=f"unix:path={runtime}/bus")
    return env


def command(request):
    """The command's words: a user's runs below the user's systemd, in a delegated cgroup."""
    if not request["user"]:
        return request["argv"]
    keep = [f"--setenv={name}" for name in environment(True, request["env"])]
    return ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "systemd-run", "--user",
            "--quiet", "--pipe", "--wait", "--collect", "--same-dir", "-p", "Delegate=yes", *keep,
            "--", *request["argv"]]


def pass_on(host, child):
    """Sends output while the command runs; what background processes say later is lost."""
    pipes = selectors.DefaultSelector()
    for kind, pipe in ((b"o", child.stdout), (b"e", child.stderr)):
        os.set_blocking(pipe.fileno(), False)
        pipes.register(pipe, selectors.EVENT_READ, kind)
    exited = os.pidfd_open(child.pid)
    pipes.register(exited, selectors.EVENT_READ, None)
    running = True
    while running:
        for key, _ in pipes.select():
            running = running and key.fd != exited
            if key.data:
                drain(host, key, pipes)
    for key in list(pipes.get_map().values()):
        if key.data:
            drain(host, key, pipes)


def drain(host, key, pipes):
    """Sends what a pipe holds now."""
    while True:
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            return
        if not data:
            pipes.unregister(key.fileobj)
            return
        host.send(key.data, data)


def serve(host):
    """Runs the one command of this machine."""
    request = host.request()
    try:
        wake(request)
        child = subprocess.Popen(
            command(request), cwd=request["cwd"], env=environment(request["user"], request["env"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    except (OSError, subprocess.CalledProcessError) as err:
        host.send(b"f", str(err).encode())
        return
    pass_on(host, child)
    code = child.wait()
    host.send(b"x", struct.pack(">I", code if code >= 0 else 128 - code))


def main():
    """Ready once, then one command; the host ends the machine."""
    host = Host()
    prepare()
    host.send(b"r")
    while True:
        serve(host)


main()
