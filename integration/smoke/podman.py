"""podman with its state of its own; no daemon."""

import os


def run(smoke):
    """All checks."""
    cli = ["podman", "--root", smoke.path("root"), "--runroot", smoke.path("run"), "--tmpdir",
           smoke.path("tmp"), "--runtime", smoke.runtime, "--cgroup-manager", "cgroupfs",
           "--events-backend", "file"]
    smoke.check([*cli, "load", "--input", smoke.image()], words="box")
    once = [*cli, "run", "--rm", "--network", "none"]
    codes(smoke, once)
    options(smoke, once)
    limits(smoke, once)
    mounts(smoke, once)
    terminals(smoke, once)
    users(smoke, once)
    life(smoke, cli)
    pods(smoke, cli)


def codes(smoke, run):
    """Output, input, exit codes, and what becomes of programs that cannot be started."""
    smoke.check([*run, "box", "echo", "hello"], words="hello")
    smoke.check([*run, "-i", "box", "cat"], words="piped", stdin=b"piped")
    smoke.check([*run, "box", "sh", "-c", "exit 7"], code=7)
    smoke.check([*run, "--init", "box", "sh", "-c", "kill -TERM $$"], code=143)
    smoke.check([*run, "box", "/no/such"], code=127, words="no such file or directory")
    smoke.check([*run, "box", "no-such"], code=127, words="executable file")
    smoke.check([*run, "box", "/etc/passwd"], code=126, words="ermission denied")
    smoke.check([*run, "box", "/tmp"], code=126)
    smoke.check([*run, "box", "/bin/badscript"], code=(1, 255))
    smoke.check([*run, "box", "/bin/garbage"], code=(1, 255), words="exec format error")
    smoke.check([*run, "--user", "nobody-there", "box", "true"], code=(125, 126), words="nobody-there")
    smoke.check([*run, "box", "sh", "-c", "ls /proc/1/fd; echo end"], words="0\n1\n2\nend", absent="3\n")
    for name in ("LEAKED", "_OCI", "LD_LIBRARY", "LISTEN", "NOTIFY"):
        smoke.check([*run, "box", "env"], words="PATH=/bin", absent=name)


def options(smoke, run):
    """Identity, privileges, names, namespaces of the host."""
    smoke.check([*run, "--user", "1000:1001", "--group-add", "5", "--workdir", "/tmp", "--hostname", "web",
                 "box", "sh", "-c", "id -u; id -g; pwd; hostname"], words="1000\n1001\n/tmp\nweb")
    smoke.check([*run, "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "box", "grep", "-E",
                 "CapEff|NoNewPrivs", "/proc/self/status"], words=("0000000000000000", "NoNewPrivs:\t1"))
    smoke.check([*run, "--cap-add", "SYS_ADMIN", "box", "mount", "-t", "tmpfs", "t", "/tmp"])
    smoke.check([*run, "--init", "box", "sh", "-c", "exit 3"], code=3)
    smoke.check([*run, "--ulimit", "nofile=64:128", "--ulimit", "nproc=99:99", "--sysctl", "net.ipv4.ip_forward=1", "box", "sh", "-c",
                 "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward"], words="64\n128\n1")
    smoke.check([*run, "--umask", "0077", "box", "sh", "-c", "umask"], words="0077")
    smoke.check([*run, "--oom-score-adj", "500", "box", "cat", "/proc/self/oom_score_adj"], words="500")
    smoke.check([*run, "--tz", "UTC", "--env", "A=b c", "--entrypoint", "/bin/sh", "box", "-c",
                 "echo $A"], words="b c")
    smoke.check([*run, "--security-opt", "seccomp=unconfined", "box", "grep", "Seccomp:",
                 "/proc/self/status"], words="\t0")
    smoke.check([*run, "box", "grep", "Seccomp:", "/proc/self/status"], words="\t2")
    smoke.check([*run, "--security-opt", "unmask=/proc/acpi", "--security-opt", "mask=/tmp", "box", "ls", "/tmp"])
    own = [os.readlink("/proc/self/ns/" + kind) for kind in ("pid", "ipc", "uts")]
    read = "for n in pid ipc uts; do readlink /proc/self/ns/$n; done"
    smoke.check([*run, "--pid=host", "--ipc=host", "--uts=host", "box", "sh", "-c", read],
                words="\n".join(own))
    host = [word for word in run if word not in ("--network", "none")]
    smoke.check([*host, "--network=host", "box", "readlink", "/proc/self/ns/net"],
                words=os.readlink("/proc/self/ns/net"))
    smoke.check([*run, "--pid=host", "box", "ps"], words="conmon")
    smoke.check([*run, "--cgroupns", "private", "box", "cat", "/proc/self/cgroup"], words=":/\n")
    smoke.check([*run, "--preserve-fds", "1", "box", "sh", "-c", "ls -l /proc/1/fd; echo end"],
                code=(0, 125, 126))
    smoke.check([*run, "--systemd=always", "box", "cat", "/proc/self/mountinfo"], words=" /run ")
    smoke.check([*run, "--personality", "LINUX32", "box", "uname", "-m"], (0, 1, 125, 126))


def limits(smoke, run):
    """Resources as the container sees them."""
    def value(option, controller, file, words):
        smoke.check([*run, *option, "box", "cat", f"/sys/fs/cgroup/{controller}/{file}"], words=words)
    value(["--memory", "32m"], "memory", "memory.limit_in_bytes", "33554432")
    value(["--cpus", "0.5"], "cpu", "cpu.cfs_quota_us", "50000")
    value(["--cpu-shares", "512"], "cpu", "cpu.shares", "512")
    value(["--pids-limit", "20"], "pids", "pids.max", "20")
    value(["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "0\n")
    smoke.check([*run, "--memory", "16m", "--memory-swap", "16m", "box", "dd", "if=/dev/zero",
                 "of=/dev/null", "bs=64M", "count=1"], code=137)
    smoke.check([*run, "--device", "/dev/fuse:/dev/other:rw", "box", "ls", "-l", "/dev/other"],
                words="10, 229")
    smoke.check([*run, "--cgroups=disabled", "box", "true"], (0, 125, 126))


def mounts(smoke, run):
    """Volumes, tmpfs, propagation."""
    source = smoke.path("source")
    os.mkdir(source)
    with open(os.path.join(source, "data"), "w", encoding="utf-8") as file:
        file.write("from the host\n")
    smoke.check([*run, "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/scratch:size=1m,mode=1777",
                 "--volume", source + ":/data:ro", "box", "sh", "-c",
                 "touch /scratch/f && cat /data/data && touch /data/x || touch /f"],
                code=1, words=("from the host", "/data/x: Read-only", "/f: Read-only"))
    smoke.check([*run, "--read-only", "box", "touch", "/tmp/f", "/run/f"])
    smoke.check([*run, "--volume", source + "/data:/etc/one/file", "box", "cat", "/etc/one/file"],
                words="from the host")
    smoke.check([*run, "--volume", "named:/vol", "box", "touch", "/vol/made"])
    smoke.check([*run, "--volume", source + ":/m:O", "box", "touch", "/m/upper"])
    smoke.check(["ls", source], absent="upper")
    info = ["box", "grep", " /m ", "/proc/self/mountinfo"]
    smoke.check([*run, "--volume", source + ":/m:rprivate,nosuid,nodev,noexec", *info],
                words="nosuid,nodev,noexec", absent="shared:")
    smoke.check([*run, "--mount", f"type=bind,src={source},dst=/m,ro=true,bind-propagation=rslave", *info],
                words=" ro,")
    smoke.check([*run, "--shm-size", "8m", "box", "df", "-k", "/dev/shm"], words="8192")
    smoke.check([*run, "--mount", "type=devpts,destination=/dev/pts2", "box", "ls", "/dev/pts2"],
                words="ptmx")


def terminals(smoke, run):
    """Terminals through conmon's console socket."""
    smoke.check([*run, "-t", "box", "tty"], words="/dev/pts/0")
    smoke.terminal([*run, "-it", "box", "sh", "-c", "read a; stty size; echo got $a; exit 4"], b"abc\n", code=4,
                   words=("33 77", "got abc"))


def users(smoke, run):
    """User namespaces that root makes."""
    smoke.check([*run, "--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", "box", "cat",
                 "/proc/self/uid_map", "/proc/self/gid_map"], words="100000       5000")
    smoke.check([*run, "--uidmap", "0:100000:5000", "--user", "1000:1001", "box", "sh", "-c",
                 "id -u; touch /tmp/f && stat -c %u:%g /tmp/f"], words="1000\n1000:1001")
    smoke.check([*run, "--uidmap", "0:100000:5000", "--tmpfs", "/scratch", "--hostname", "web", "box", "sh",
                 "-c", "hostname; touch /scratch/f /dev/shm/f; ls -ln /dev/null"], words="web")
    smoke.check([*run, "--userns=host", "box", "cat", "/proc/self/uid_map"], words="4294967295")


def life(smoke, cli):
    """A container that stays."""
    smoke.check([*cli, "run", "-d", "--network", "none", "--name", "box", "box", "sh", "-c",
                 "trap 'echo usr1' USR1; trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"])
    smoke.wait([*cli, "logs", "box"], "ready")
    run = [*cli, "exec"]
    smoke.check([*run, "box", "echo", "inside"], words="inside")
    smoke.check([*run, "-i", "box", "cat"], words="piped", stdin=b"piped")
    smoke.check([*run, "box", "sh", "-c", "exit 5"], code=5)
    smoke.check([*run, "box", "no-such"], 127, "executable file")
    smoke.check([*run, "box", "/no/such"], 127, "no such file or directory")
    smoke.check([*run, "box", "/etc/passwd"], 126, "ermission denied")
    smoke.check([*run, "--user", "7", "--workdir", "/tmp", "--env", "A=b", "box", "sh", "-c",
                 "id -u; pwd; echo $A"], words="7\n/tmp\nb")
    smoke.check([*run, "--workdir", "/not/there", "box", "true"], (126, 127))
    smoke.check([*run, "--detach", "box", "touch", "/tmp/detached"])
    smoke.wait([*run, "box", "ls", "/tmp"], "detached")
    smoke.check([*run, "box", "sh", "-c", "ls /proc/$$/fd; echo end"], words="0\n1\n2\nend", absent="3\n")
    smoke.check([*run, "box", "env"], words="PATH=", absent="LEAKED")
    smoke.check([*run, "--privileged", "box", "true"], (0, 126, 125, 255))
    smoke.check([*run, "-t", "box", "tty"], words="/dev/pts/")
    smoke.terminal([*run, "-it", "box", "sh", "-c", "read a; stty size; echo got $a; exit 4"], b"abc\n", code=4,
                   words=("33 77", "got abc"))
    smoke.check([*cli, "pause", "box"])
    smoke.check([*cli, "inspect", "--format", "{{.State.Status}}", "box"], words="paused")
    smoke.check([*cli, "unpause", "box"])
    smoke.check([*cli, "top", "box"], words="sleep")
    smoke.check([*cli, "stats", "--no-stream", "box"], words="box")
    smoke.check([*cli, "update", "--memory", "64m", "--memory-swap", "64m", "box"])
    smoke.check([*run, "box", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"], words="67108864")
    smoke.check([*cli, "kill", "--signal", "USR1", "box"])
    smoke.wait([*cli, "logs", "box"], "usr1")
    smoke.check([*cli, "stop", "--time", "2", "box"])
    smoke.check([*cli, "inspect", "--format", "{{.State.ExitCode}}", "box"], words="9")
    smoke.check([*cli, "start", "box"])
    smoke.check([*cli, "restart", "--time", "0", "box"])
    smoke.check([*cli, "kill", "box"])
    smoke.check([*cli, "wait", "box"], words="137")
    smoke.check([*cli, "rm", "--force", "box"])
    smoke.check([*cli, "create", "--network", "none", "--name", "made", "box", "echo", "made"])
    smoke.check([*cli, "init", "made"])
    smoke.check([*cli, "start", "--attach", "made"], words="made")
    smoke.check([*cli, "rm", "made"])


def pods(smoke, cli):
    """Containers that share namespaces by path."""
    smoke.check([*cli, "run", "-d", "--network", "none", "--name", "base", "box", "sleep", "600"])
    run = [*cli, "run", "--rm"]
    smoke.check([*run, "--network", "none", "--pid", "container:base", "--ipc", "container:base", "box", "ps"],
                words="sleep 600")
    smoke.check([*run, "--network", "container:base", "box", "ls", "/sys/class/net"], words="lo")
    # runc cannot mount what shows a namespace that the new user namespace does not own.
    users = [] if os.path.basename(smoke.runtime) == "runc" else [["pid"], ["pid", "network", "ipc"]]
    for kinds in users:
        joined = [word for kind in kinds for word in ("--" + kind, "container:base")]
        smoke.check([*run, "--uidmap", "0:100000:5000", "--gidmap", "0:100000:5000", *joined, "box", "sh", "-c",
                     "tr -s ' ' </proc/self/uid_map; ps"], words=(" 0 100000 5000\n", "sleep 600"))
    smoke.check([*cli, "rm", "--force", "--time", "0", "base"])
    infra = ["--infra-image", "localhost/box:latest", "--infra-command", "/bin/sleep 900"]
    smoke.check([*cli, "pod", "create", "--name", "pod", "--network", "none", "--share", "ipc,net,uts,pid",
                 "--hostname", "podhost", *infra])
    smoke.check([*cli, "run", "-d", "--pod", "pod", "--name", "member", "box", "sleep", "600"])
    smoke.check([*cli, "exec", "member", "hostname"], words="podhost")
    smoke.check([*cli, "exec", "member", "ps"], words="sleep 900")
    smoke.check([*run, "--pod", "pod", "box", "ps"], words="sleep 600")
    smoke.check([*cli, "pod", "pause", "pod"])
    smoke.check([*cli, "pod", "unpause", "pod"])
    smoke.check([*cli, "pod", "stop", "--time", "0", "pod"])
    smoke.check([*cli, "pod", "start", "pod"])
    smoke.check([*cli, "pod", "kill", "pod"])
    smoke.check([*cli, "pod", "rm", "--force", "--time", "0", "pod"])
