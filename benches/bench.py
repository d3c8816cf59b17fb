"""What the programs of this folder share: packages, a private world, the stopwatch, bundles."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(HERE)
PROFILE = "/usr/share/containers/seccomp.json"
PACKAGES = {
    "gcc": "gcc libc6-dev",
    "crun": "crun",
    "runc": "runc",
    "strace": "strace",
    "unshare": "util-linux",
    "mmdebstrap": "mmdebstrap",
    "skopeo": "skopeo",
    "umoci": "umoci",
    "docker-registry": "docker-registry",
}
PRIVATE = "TARE_BENCH_PRIVATE"


def install(tools):
    """Installs from Debian what is absent of `tools`; for runtimes Docker's seccomp profile, too."""
    missing = [PACKAGES[t] for t in tools if not shutil.which(t)]
    if "runc" in tools and not os.path.exists(PROFILE):
        missing.append("golang-github-containers-common")
    if not missing:
        return
    words = " ".join(missing).split()
    print("installing " + " ".join(words), file=sys.stderr)
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *words]):
        subprocess.run(["apt-get", "-qq", *command], check=True, env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)


def enter_private_world():
    """Goes on in a mount namespace of our own without /sys/fs/cgroup/unified: crun 1.8, the one
    of Debian 12, refuses hosts that have both cgroup versions."""
    if os.environ.get(PRIVATE):
        return
    if os.geteuid() != 0:
        sys.exit("these figures need root (namespaces, cgroups): sudo " + sys.argv[0])
    script = (
        "if [ -d /sys/fs/cgroup/unified ] && [ -d /sys/fs/cgroup/memory ]; then"
        " umount /sys/fs/cgroup/unified; mount -t tmpfs none /sys/fs/cgroup/unified; fi; exec \"$@\""
    )
    os.environ[PRIVATE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", script,
                          "sh", sys.executable, "-B", *sys.argv])


def build(program, *options):
    """Builds a release program and returns its path."""
    home = os.path.expanduser("~" + os.environ.get("SUDO_USER", "root"))
    cargo = shutil.which("cargo") or os.path.join(home, ".cargo/bin/cargo")
    subprocess.run([cargo, "build", "--quiet", "--release", *options, "--bin", program],
                   cwd=PROJECT, check=True, stdin=subprocess.DEVNULL)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(PROJECT, "target"))
    return os.path.join(target, "release", program)


def build_tare():
    """Builds the release tare without the image side and returns its path."""
    return build("tare", "--no-default-features")


def compile_c(source, out, *flags):
    """Compiles a static C program of this folder."""
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Wno-format-truncation", "-static", *flags, "-o", out,
                    os.path.join(HERE, source)], check=True)


def docker_profile(capabilities):
    """linux.seccomp for x86-64 as an engine expands Docker's default profile: sub-architectures
    from archMap, entries chosen by architecture and by the container's capabilities."""
    with open(PROFILE, encoding="utf-8") as file:
        profile = json.load(file)
    arches = next(a for a in profile["archMap"] if a["architecture"] == "SCMP_ARCH_X86_64")
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [arches["architecture"], *arches["subArchitectures"]],
        "syscalls": [expand(e) for e in profile["syscalls"] if wanted(e, capabilities)],
    }


def wanted(entry, capabilities):
    """Whether an entry of the profile applies to x86-64 with these capabilities."""
    yes, no = entry.get("includes") or {}, entry.get("excludes") or {}
    if "arches" in yes and "amd64" not in yes["arches"]:
        return False
    if "amd64" in no.get("arches", []) or set(no.get("caps", [])) & capabilities:
        return False
    return set(yes.get("caps", [])) <= capabilities


def expand(entry):
    """The entry with the members that config.json knows."""
    rule = {"names": entry["names"], "action": entry["action"]}
    if entry.get("errnoRet") is not None:
        rule["errnoRet"] = entry["errnoRet"]
    if entry.get("args"):
        keys = ("index", "value", "valueTwo", "op")
        rule["args"] = [{k: a[k] for k in keys if k in a} for a in entry["args"]]
    return rule


class Scratch:
    """A tmpfs with the stopwatch, gone at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tare-bench-")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "bench", self.dir], check=True)
        self.stopwatch = self.path("stopwatch")
        compile_c("stopwatch.c", self.stopwatch)

    def path(self, *names):
        """A path inside the tmpfs."""
        return os.path.join(self.dir, *names)

    def remove(self):
        """Unmounts (in our own mount namespace only) and removes the folder."""
        subprocess.run(["umount", "-l", self.dir], check=False)
        os.rmdir(self.dir)


class World(Scratch):
    """A scratch with the programs, the bundles and the runtimes' state."""

    def __init__(self):
        super().__init__()
        self.serial = 0
        self.floor = self.path("floor")
        compile_c("floor.c", self.floor)
        rootfs = self.path("rootfs")
        for name in ("bin", "dev", "proc", "sys"):
            os.makedirs(os.path.join(rootfs, name))
        compile_c("payload.c", os.path.join(rootfs, "bin/true"), "-nostdlib", "-ffreestanding")
        compile_c("payload.c", os.path.join(rootfs, "bin/wait"), "-nostdlib", "-ffreestanding",
                  "-DWAIT")
        self.rootfs = rootfs

    def bundle(self, name, args, seccomp=False):
        """A bundle with runc's default spec and `args`; returns its folder and its cgroup."""
        folder = self.path(name)
        os.mkdir(folder)
        subprocess.run(["runc", "spec", "--bundle", folder], check=True)
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(terminal=False, args=args)
        config["root"]["path"] = self.rootfs
        # Away from the caller's own cgroup, which may be anyone's.
        config["linux"]["cgroupsPath"] = "/tare-bench-" + str(os.getpid()) + "-" + name
        if seccomp:
            bounding = set(config["process"]["capabilities"]["bounding"])
            config["linux"]["seccomp"] = docker_profile(bounding)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(config, file)
        return folder

    def new_id(self):
        """An id that was not used before."""
        self.serial += 1
        return f"bench-{os.getpid()}-{self.serial}"

    def command(self, runtime, *arguments):
        """A runtime's command line with a state folder of its own."""
        return [runtime, "--root", self.path("state-" + os.path.basename(runtime)), *arguments]


class Stopwatch:
    """The helper that runs one command at a time; see stopwatch.c."""

    def __init__(self, path, errors):
        self.errors = errors
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=open(errors, "w", encoding="utf-8"), text=True)

    def run(self, argv):
        """Wall and CPU seconds and peak bytes of a command, which has to succeed."""
        self.process.stdin.write("\x1f".join(argv) + "\n")
        self.process.stdin.flush()
        wall, cpu, peak, status = map(int, self.process.stdout.readline().split())
        if status:
            with open(self.errors, encoding="utf-8") as file:
                sys.exit(f"{' '.join(argv)}: exit code {status}\n{file.read()[-2000:]}")
        return {"wall": wall / 1e9, "cpu": cpu / 1e6, "peak": peak * 1024}


def total(parts):
    """Several commands as one: times added, the highest peak."""
    return {
        "wall": sum(p["wall"] for p in parts),
        "cpu": sum(p["cpu"] for p in parts),
        "peak": max(p["peak"] for p in parts),
    }


def measure(count, rows):
    """Runs every row's function `count` times, in turn, after one round that is not counted."""
    samples = {name: [] for name in rows}
    for turn in range(count + 1):
        for name, once in rows.items():
            sample = once()
            if turn:
                samples[name].append(sample)
    return {name: summary(values) for name, values in samples.items()}


def summary(values):
    """Minimum, median of the times, highest peak."""
    return {
        "runs": len(values),
        "wall_min": min(v["wall"] for v in values),
        "wall_median": statistics.median(v["wall"] for v in values),
        "cpu_min": min(v["cpu"] for v in values),
        "cpu_median": statistics.median(v["cpu"] for v in values),
        "peak": max(v["peak"] for v in values),
    }
