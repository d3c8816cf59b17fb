"""ctr on a containerd of its own."""

import json
import os
import time

IMAGE = "docker.io/library/box:latest"


def run(smoke):
    """All checks."""
    ctr = start(smoke)
    smoke.check([*ctr, "image", "import", smoke.image()])
    attached(smoke, [*ctr, "run", "--runc-binary", smoke.runtime])
    options(smoke, [*ctr, "run", "--rm", "--runc-binary", smoke.runtime])
    tasks(smoke, ctr)
    paths(smoke, ctr)


def start(smoke):
    """The daemon; the beginning of every ctr command."""
    config, socket = smoke.path("config.toml"), smoke.path("c.sock")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'version = 2\nroot = "{smoke.path("root")}"\nstate = "{smoke.path("run")}"\n'
                   'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                   f'[grpc]\naddress = "{socket}"\n')
    ctr = ["ctr", "--address", socket]
    smoke.daemon(["containerd", "--config", config], [*ctr, "version"])
    return ctr


def attached(smoke, run):
    """Output, exit codes, and the words of failures as the shim reads them from log.json."""
    run = [*run, "--rm", IMAGE]
    smoke.check([*run, "one", "/bin/echo", "hello"], words="hello")
    smoke.check([*run, "two", "/bin/sh", "-c", "exit 7"], code=7)
    smoke.check([*run, "sig", "/bin/sh", "-c", "kill -TERM $$"], code=(143, 0, 1))
    smoke.check([*run, "none", "/no/such"], code=1, words="no such file or directory")
    smoke.check([*run, "none", "no-such"], code=1, words="executable file not found in $PATH")
    smoke.check([*run, "none", "/etc/passwd"], code=1, words="permission denied")
    # Before runc 1.2 the words were "permission denied".
    smoke.check([*run, "none", "/tmp"], code=1, words="exec")
    smoke.check([*run, "none", "/bin/badscript"], code=(1, 255), words="no such file or directory")
    smoke.check([*run, "none", "/bin/garbage"], code=(1, 255), words="exec format error")
    smoke.check([*run, "fds", "/bin/sh", "-c", "ls /proc/1/fd; echo end"], words="\n0\n1\n2\nend"[1:],
                absent="3\n")
    smoke.check([*run, "env", "/bin/env"], words="PATH=", absent="LEAKED")
    smoke.check([*run, "env", "/bin/env"], absent="_OCI")
    smoke.check([*run, "env", "/bin/env"], absent="LD_LIBRARY")


def options(smoke, run):
    """What changes the configuration."""
    shared = smoke.path("shared")
    os.mkdir(shared)
    with open(os.path.join(shared, "data"), "w", encoding="utf-8") as file:
        file.write("from the host\n")
    smoke.check([*run, "--memory-limit", "16777216", IMAGE, "limits", "/bin/dd", "if=/dev/zero",
                 "of=/dev/null", "bs=64M", "count=1"], code=137)
    smoke.check([*run, "--seccomp", IMAGE, "filter", "/bin/grep", "Seccomp:", "/proc/self/status"],
                words="2")
    smoke.check([*run, "--read-only", IMAGE, "ro", "/bin/touch", "/f"], 1, "Read-only file system")
    smoke.check([*run, "--no-pivot", IMAGE, "nopivot", "/bin/echo", "no pivot"], words="no pivot")
    smoke.check([*run, "--cwd", "/tmp", "--env", "A=b", IMAGE, "cwd", "/bin/sh", "-c", "pwd; echo $A"],
                words="/tmp\nb")
    mount = f"type=bind,src={shared},dst=/data,options=rbind:ro"
    smoke.check([*run, "--mount", mount, IMAGE, "bind", "/bin/sh", "-c", "cat /data/data; touch /data/x"],
                1, ("from the host", "Read-only"))
    smoke.check([*run, "--net-host", IMAGE, "net", "/bin/ls", "/sys/class/net"], words="lo")
    smoke.check([*run, "--device", "/dev/fuse", IMAGE, "dev", "/bin/ls", "-l", "/dev/fuse"],
                words="10, 229")
    smoke.check([*run, "--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "CAP_CHOWN", IMAGE, "caps", "/bin/sh",
                 "-c", "mount -t tmpfs t /tmp && chown 5 /tmp"], 1, "Operation not permitted")
    smoke.check([*run, "--privileged", "--privileged-without-host-devices", IMAGE, "priv", "/bin/true"],
                code=(0, 1))
    smoke.check([*run, "--allow-new-privs", IMAGE, "nnp", "/bin/grep", "NoNewPrivs", "/proc/self/status"],
                words="0")
    smoke.check([*run, "--rootfs-propagation", "shared", IMAGE, "prop", "/bin/cat", "/proc/self/mountinfo"],
                words=" / / rw,relatime")
    smoke.terminal([*run, "-t", IMAGE, "tty", "/bin/sh", "-c", "tty; read a; stty size; echo got $a"],
                   b"abc\n", words=("/dev/pts/0", "33 77", "got abc"))
    smoke.terminal([*run, "-t", IMAGE, "tty2", "/bin/sh", "-c", "exit 9"], code=9)


def tasks(smoke, ctr):
    """A container that stays: exec, pause, metrics, update, kill."""
    task = [*ctr, "task"]
    smoke.check([*ctr, "run", "-d", "--runc-binary", smoke.runtime, "--memory-limit", "67108864", "--cpus",
                 "0.5", IMAGE, "box", "/bin/sleep", "600"])
    smoke.check([*ctr, "run", "-d", "--runc-binary", smoke.runtime, IMAGE, "box", "/bin/true"], code=1,
                words="already exists")
    smoke.check([*task, "ls"], words="RUNNING")
    run = [*task, "exec", "--exec-id"]
    smoke.check([*run, "e1", "box", "/bin/echo", "inside"], words="inside")
    smoke.check([*run, "e2", "box", "/bin/sh", "-c", "exit 5"], code=5)
    smoke.check([*run, "e3", "box", "/no/such"], code=1, words="no such file or directory")
    smoke.check([*run, "e4", "--user", "1000", "--cwd", "/tmp", "box", "/bin/sh", "-c", "id -u; pwd"],
                words="1000\n/tmp")
    smoke.check([*run, "e5", "box", "/bin/sh", "-c", "ls /proc/$$/fd; echo end"], words="0\n1\n2\nend",
                absent="3\n")
    smoke.check(["cat", "/sys/fs/cgroup/cpu/default/box/cpu.cfs_quota_us"], words="50000")
    smoke.terminal([*run, "e8", "-t", "box", "/bin/sh", "-c", "tty; read a; echo got $a"], b"abc\n",
                   words=("/dev/pts/", "got abc"))
    smoke.check([*task, "ps", "box"], words="PID")
    smoke.check([*task, "pause", "box"])
    smoke.check([*task, "ls"], words="PAUSED")
    smoke.check([*run, "e9", "box", "/bin/true"], code=1, words="cannot exec in a paused")
    smoke.check([*task, "resume", "box"])
    metrics = smoke.check([*task, "metrics", "--format", "json", "box"], words="memory")
    smoke.judge(["metrics: the limit"], (0, metrics), (0, "67108864", None))
    smoke.check([*task, "delete", "box"], code=1, words="must be stopped")
    smoke.check([*task, "kill", "--signal", "USR1", "box"])
    smoke.check([*task, "kill", "--signal", "SIGKILL", "box"])
    smoke.wait([*task, "ls"], "STOPPED")
    smoke.check([*task, "kill", "box"], code=1, words="process already finished")
    smoke.check([*task, "rm", "box"], words="137")
    smoke.check([*ctr, "container", "rm", "box"])
    shared_pid(smoke, ctr)


def shared_pid(smoke, ctr):
    """A container in another's pid namespace is killed whole."""
    task = [*ctr, "task"]
    run = [*ctr, "run", "-d", "--runc-binary", smoke.runtime]
    smoke.check([*run, IMAGE, "first", "/bin/sleep", "600"])
    pid = smoke.check([*task, "ls"], words="first").split("first")[1].split()[0]
    smoke.check([*run, "--with-ns", f"pid:/proc/{pid}/ns/pid", IMAGE, "second", "/bin/sh", "-c",
                 "sleep 700 & sleep 700"])
    exec_ps = [*task, "exec", "--exec-id", "ps", "first", "/bin/ps"]
    smoke.wait(exec_ps, "sleep 700\n")
    smoke.check([*task, "kill", "--signal", "KILL", "--all", "second"])
    time.sleep(0.5)
    smoke.check([*task, "rm", "second"], words="137")
    smoke.check(exec_ps, words="sleep 600", absent="sleep 700")
    smoke.check([*task, "rm", "-f", "first"], code=(0, 137), words="137")


def paths(smoke, ctr):
    """A bundle's config.json of the caller's own: joined namespaces, hooks, an error's path."""
    config = smoke.path("own.json")
    # The default configuration of ctr as a start.
    smoke.check([*ctr, "container", "create", IMAGE, "spec", "/bin/echo", "own config"])
    said = smoke.check([*ctr, "container", "info", "--spec", "spec"], words="ociVersion")
    spec = json.loads(said)
    spec["root"] = {"path": smoke.path("rootfs")}
    os.makedirs(smoke.path("rootfs/bin"))
    smoke.check(["cp", "/bin/busybox", smoke.path("rootfs/bin/busybox")])
    spec["process"]["args"] = ["/bin/busybox", "echo", "own config"]
    mark = smoke.path("hooked")
    spec["hooks"] = {"createRuntime": [{"path": "/bin/touch", "args": ["touch", mark]}],
                     "poststop": [{"path": "/bin/touch", "args": ["touch", mark + ".stop"]}]}
    write(config, spec)
    run = [*ctr, "run", "--rm", "--runc-binary", smoke.runtime, "--config", config]
    smoke.check([*run, "own"], words="own config")
    smoke.check(["ls", mark, mark + ".stop"], words="hooked.stop")
    spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]}
    write(config, spec)
    smoke.check([*run, "badhook"], 1, ("hook #0", "why"))
    del spec["hooks"]
    spec["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "t",
                           "options": ["size=banana"]})
    write(config, spec)
    smoke.check([*run, "badmount"], 1, "invalid argument")


def write(path, value):
    """A JSON file."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)
