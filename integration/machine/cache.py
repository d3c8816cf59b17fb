"""The cache of machines.

A machine is made of packages, of what stands in this directory, and of one build of QEMU; its name
in the cache is a digest of them all, so that a change of one makes a new machine. What nobody used
for two weeks is removed.
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import sys
import tempfile
import time

from . import GUEST, HERE, Impossible, base, prepare
from .qemu import PROGRAM, identity

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "tare-vm")
UNUSED_LIMIT = 14 * 24 * 3600
NEEDED = {PROGRAM: "qemu-system-x86", "mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs", "zstd": "zstd"}


def say(text):
    """Tells what takes long."""
    print(f"integration/vm: {text}", file=sys.stderr, flush=True)


def check():
    """Refuses hosts where no machine can be made."""
    if os.uname().machine != "x86_64":
        raise Impossible(f"the machine is made for x86_64, and this host is {os.uname().machine}")
    if os.geteuid() != 0:
        raise Impossible("root is needed to make the machine's root file system")
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        raise Impossible(f"apt-get install {' '.join(missing)}")


def digest(*parts):
    """A name for what is made of these."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def own_sources():
    """The text of what makes the machine, as far as it stands in this directory."""
    makers = [f"{HERE}/{name}.py" for name in ("kernel", "prepare", "qemu")]
    for path in makers + sorted(glob.glob(f"{GUEST}/*")):
        with open(path, encoding="utf-8") as file:
            yield file.read()


@contextlib.contextmanager
def locked(path):
    """One preparation at a time."""
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def used(path):
    """Whether it is there; then it stays for another two weeks."""
    with contextlib.suppress(FileNotFoundError):
        os.utime(path)
        return True
    return False


def forget_unused():
    """Removes what was not used for long, and what an interrupted preparation left."""
    left = glob.glob(f"{CACHE}/new-*") + glob.glob(f"{CACHE}/base-*.new")
    made = glob.glob(f"{CACHE}/base-*.tar") + glob.glob(f"{CACHE}/machine-*")
    old = [path for path in made if os.stat(path).st_mtime < time.time() - UNUSED_LIMIT]
    for path in left + old:
        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def machine(variant):
    """The directory of such a machine; made if there is none."""
    check()
    os.makedirs(CACHE, exist_ok=True)
    name = digest(str(variant), identity(), *base.ingredients(variant), *own_sources())
    directory = f"{CACHE}/machine-{name}"
    if used(directory):
        return directory
    with locked(f"{CACHE}/lock"):
        if not used(directory):
            forget_unused()
            build(variant, directory)
    return directory


def build(variant, directory):
    """Makes a machine; it gets its name when it is complete."""
    begin = time.monotonic()
    say("making the machine (once; about three minutes)")
    with tempfile.TemporaryDirectory(prefix="new-", dir=CACHE) as scratch:
        new = os.path.join(scratch, "machine")
        os.makedirs(os.path.join(new, "empty"))
        with open(f"{CACHE}/log", "w+b") as log:
            prepare.make_disk(variant, archive(variant, log), new, scratch)
            say(f"booting it ({int(time.monotonic() - begin)} s)")
            prepare.freeze(new, log)
        os.rename(new, directory)
    say(f"ready ({int(time.monotonic() - begin)} s)")


def archive(variant, log):
    """The root file system without kernel."""
    path = f"{CACHE}/base-{digest(*base.ingredients(variant))}.tar"
    if not used(path):
        base.build(variant, f"{path}.new", log)
        os.rename(f"{path}.new", path)
    return path
