"""The docker command line on a dockerd of its own."""

import json
import os
import subprocess
import time


def run(smoke):
    """All checks."""
    cli = start(smoke)
    smoke.check([*cli, "load", "--input", smoke.image()], words="box")
    once = [*cli, "run", "--rm"]
    codes(smoke, once)
    leaks(smoke, once)
    options(smoke, once)
    limits(smoke, once)
    mounts(smoke, once)
    terminals(smoke, once)
    life(smoke, cli)
    shared(smoke, cli)
    images(smoke, cli)
    remapped(smoke)


def start(smoke, name="d", options=()):
    """A daemon; the beginning of every docker command."""
    host = "unix://" + smoke.path(name + ".sock")
    cli = ["docker", "--host", host]
    smoke.daemon(["dockerd", "--host", host, "--data-root", smoke.path(name, "root"), "--exec-root",
                  smoke.path(name, "exec"), "--pidfile", smoke.path(name + ".pid"), "--bridge=none",
                  "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--userland-proxy=false",
                  "--add-runtime", "it=" + smoke.runtime, "--default-runtime", "it", *options],
                 [*cli, "version"])
    smoke.check([*cli, "info"], words="Default Runtime: it")
    return cli


def codes(smoke, run):
    """Output, input, exit codes, and what becomes of programs that cannot be started."""
    smoke.check([*run, "box", "echo", "hello"], words="hello")
    smoke.check([*run, "-i", "box", "cat"], words="piped", stdin=b"piped")
    smoke.check([*run, "box", "sh", "-c", "exit 7"], code=7)
    smoke.check([*run, "--init", "box", "sh", "-c", "kill -TERM $$"], code=143)
    smoke.check([*run, "box", "/no/such"], code=127, words="no such file or directory")
    smoke.check([*run, "box", "no-such"], code=127, words="executable file not found")
    smoke.check([*run, "box", "/etc/passwd"], code=126, words="permission denied")
    smoke.check([*run, "box", "/tmp"], code=126, words="exec")
    smoke.check([*run, "box", "/bin/badscript"], code=(1, 255), words="no such file or directory")
    smoke.check([*run, "box", "/bin/garbage"], code=(1, 255), words="exec format error")
    smoke.check([*run, "box", "/etc/passwd/x"], code=(125, 126, 127), words="not a directory")
    smoke.check([*run, "--workdir", "/etc/passwd", "box", "true"], code=(125, 126, 127),
                words="not a directory")
    smoke.check([*run, "--user", "nobody-there", "box", "true"], code=125, words="no matching entries")


def leaks(smoke, run):
    """Nothing of the daemon's descriptors and variables is in the container."""
    smoke.check([*run, "box", "sh", "-c", "ls /proc/1/fd; echo end"], words="0\n1\n2\nend", absent="3\n")
    for name in ("LEAKED", "_OCI", "LD_LIBRARY", "LISTEN", "NOTIFY", "GO"):
        smoke.check([*run, "box", "env"], words="PATH=/bin", absent=name)


def options(smoke, run):
    """Identity, privileges, names, namespaces of the host."""
    smoke.check([*run, "--user", "1000:1001", "--group-add", "5", "--workdir", "/tmp", "--hostname",
                 "web", "box", "sh", "-c", "id -u; id -g; id -G; pwd; hostname"],
                words="1000\n1001\n1001 5\n/tmp\nweb")
    smoke.check([*run, "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "box", "grep", "-E",
                 "CapEff|NoNewPrivs", "/proc/self/status"], words=("0000000000000000", "NoNewPrivs:\t1"))
    smoke.check([*run, "--cap-drop", "ALL", "--cap-add", "CHOWN", "box", "grep", "-E", "CapBnd|CapEff",
                 "/proc/self/status"], words="CapEff:\t0000000000000001\nCapBnd:\t0000000000000001")
    smoke.check([*run, "--cap-add", "SYS_ADMIN", "box", "mount", "-t", "tmpfs", "t", "/tmp"])
    smoke.check([*run, "--user", "1000", "box", "grep", "CapEff", "/proc/self/status"],
                words="0000000000000000")
    smoke.check([*run, "--init", "box", "sh", "-c", "exit 3"], code=3)
    smoke.check([*run, "--init", "box", "ps"], words="docker-init")
    smoke.check([*run, "--ulimit", "nofile=64:128", "--ulimit", "core=0", "--sysctl",
                 "net.ipv4.ip_forward=1", "box", "sh", "-c",
                 "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/net/ipv4/ip_forward"],
                words="64\n128\n0\n1")
    smoke.check([*run, "--sysctl", "kernel.shmmax=65536", "--domainname", "example.org", "box", "sh", "-c",
                 "cat /proc/sys/kernel/shmmax /proc/sys/kernel/domainname"], words="65536\nexample.org")
    smoke.check([*run, "--oom-score-adj", "500", "box", "cat", "/proc/self/oom_score_adj"], words="500")
    smoke.check([*run, "--env", "A=b c", "--entrypoint", "/bin/sh", "box", "-c", "echo $A"], words="b c")
    smoke.check([*run, "--security-opt", "seccomp=unconfined", "box", "grep", "Seccomp:",
                 "/proc/self/status"], words="\t0")
    profile = smoke.path("profile.json")
    with open(profile, "w", encoding="utf-8") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}, file)
    smoke.check([*run, "--security-opt", "seccomp=" + profile, "box", "mkdir", "/tmp/x"], 1,
                "Function not implemented")
    smoke.check([*run, "--security-opt", "apparmor=unconfined", "--security-opt", "label=disable", "box",
                 "true"])
    smoke.check([*run, "--security-opt", "systempaths=unconfined", "box", "cat", "/proc/self/mountinfo"],
                absent=" /proc/sys ")
    smoke.check([*run, "box", "cat", "/proc/keys"], absent="keyring")
    own = [os.readlink("/proc/self/ns/" + kind) for kind in ("pid", "ipc", "uts", "net")]
    read = "for n in pid ipc uts net; do readlink /proc/self/ns/$n; done"
    smoke.check([*run, "--pid=host", "--ipc=host", "--uts=host", "--net=host", "box", "sh", "-c", read],
                words="\n".join(own))
    smoke.check([*run, "--pid=host", "box", "ps"], words="dockerd")
    smoke.check([*run, "--cgroupns", "private", "box", "cat", "/proc/self/cgroup"], words=":/\n",
                absent="docker")
    smoke.check([*run, "--cgroupns", "host", "box", "cat", "/proc/self/cgroup"], words="docker")


def limits(smoke, run):
    """Resources as the container sees them."""
    def value(option, controller, file, words):
        smoke.check([*run, *option, "box", "cat", f"/sys/fs/cgroup/{controller}/{file}"], words=words)
    value(["--memory", "32m", "--cpus", "0.5"], "memory", "memory.limit_in_bytes", "33554432")
    value(["--memory-reservation", "16m"], "memory", "memory.soft_limit_in_bytes", "16777216")
    value(["--memory", "32m", "--memory-swappiness", "10"], "memory", "memory.swappiness", "10")
    value(["--memory", "32m", "--oom-kill-disable"], "memory", "memory.oom_control", "oom_kill_disable 1")
    value(["--cpus", "0.5"], "cpu", "cpu.cfs_quota_us", "50000")
    value(["--cpu-shares", "512"], "cpu", "cpu.shares", "512")
    value(["--cpuset-cpus", "0", "--cpuset-mems", "0"], "cpuset", "cpuset.cpus", "0\n")
    value(["--pids-limit", "20"], "pids", "pids.max", "20")
    value(["--pids-limit", "-1"], "pids", "pids.max", "max")
    smoke.check([*run, "--memory", "16m", "--memory-swap", "16m", "box", "dd", "if=/dev/zero",
                 "of=/dev/null", "bs=64M", "count=1"], code=137)
    smoke.check([*run, "--pids-limit", "4", "box", "sh", "-c",
                 "for i in 1 2 3 4 5 6; do sleep 5 & done; wait"], code=(0, 2), words="can't fork")
    smoke.check([*run, "--cgroup-parent", "/docker/nested", "box", "cat", "/proc/self/cgroup"],
                words="nested")
    smoke.check([*run, "box", "cat", "/dev/fuse"], 1)
    smoke.check([*run, "--device", "/dev/fuse:/dev/other:rw", "box", "ls", "-l", "/dev/other"],
                words="10, 229")
    smoke.check([*run, "--device", "/dev/zero:/dev/other:r", "box", "sh", "-c", "head -c3 /dev/other | wc -c"],
                words="3")
    smoke.check([*run, "--device-cgroup-rule", "c 10:229 rwm", "box", "sh", "-c",
                 "mknod /tmp/f c 10 229 && head -c0 /tmp/f && echo made"], words="made")
    smoke.check([*run, "--cap-add", "MKNOD", "box", "mknod", "/tmp/f", "b", "7", "0"], 0)
    smoke.check([*run, "box", "sh", "-c", "mknod /tmp/f b 7 0; head -c1 /tmp/f"], 1,
                "Operation not permitted")


def mounts(smoke, run):
    """Volumes, tmpfs, propagation."""
    source = smoke.path("source")
    os.mkdir(source)
    subprocess.run(["mount", "-t", "tmpfs", "shared", source], check=True)
    subprocess.run(["mount", "--make-shared", source], check=True)
    with open(os.path.join(source, "data"), "w", encoding="utf-8") as file:
        file.write("from the host\n")
    smoke.check([*run, "--read-only", "--tmpfs", "/scratch:size=1m,mode=1777", "--volume",
                 source + ":/data:ro", "box", "sh", "-c",
                 "touch /scratch/f && cat /data/data && df -k /scratch | grep 1024 && touch /data/x || touch /f"],
                code=1, words=("from the host", "/data/x: Read-only", "/f: Read-only"))
    smoke.check([*run, "--volume", source + "/data:/etc/one/file", "box", "cat", "/etc/one/file"],
                words="from the host")
    smoke.check([*run, "--volume", "named:/vol", "box", "touch", "/vol/made"])
    smoke.check([*run, "--volume", "named:/vol:nocopy", "box", "ls", "/vol"], words="made")
    smoke.check([*run, "--mount", "type=tmpfs,dst=/t,tmpfs-size=65536,tmpfs-mode=1700", "box", "stat", "-c",
                 "%a", "/t"], words="1700")
    info = ["box", "grep", " /m ", "/proc/self/mountinfo"]
    for mode, words, absent in (("rprivate", " /m ", "shared:"), ("rshared", "shared:", None),
                                ("rslave", "master:", "shared:"), ("shared", "shared:", None),
                                ("slave", "master:", None), ("private", " /m ", "master:")):
        smoke.check([*run, "--volume", f"{source}:/m:{mode}", *info], words=words, absent=absent)
    smoke.check([*run, "--cap-add", "SYS_ADMIN", "--volume", source + ":/m:rshared", "box", "sh", "-c",
                 "mkdir /m/sub && mount -t tmpfs inner /m/sub"])
    smoke.check(["grep", "source/sub", "/proc/self/mountinfo"], words="inner")
    smoke.check([*run, "--mount", f"type=bind,src={source},dst=/m,bind-nonrecursive", "box", "cat",
                 "/proc/self/mountinfo"], absent="/m/sub")
    subprocess.run(["umount", source + "/sub"], check=False)
    smoke.check([*run, "--shm-size", "8m", "box", "df", "-k", "/dev/shm"], words="8192")
    smoke.check([*run, "--volume", source + "/data:/tmp", "box", "true"], (125, 126, 127),
                "not a directory")


def terminals(smoke, run):
    """Terminals that docker makes for the container."""
    smoke.check([*run, "-t", "box", "tty"], words="/dev/pts/0")
    smoke.terminal([*run, "-it", "box", "sh", "-c", "read a; stty size; echo got $a; exit 4"], b"abc\n",
                   code=4, words=("33 77", "got abc"))
    smoke.terminal([*run, "-it", "--user", "1000", "box", "sh", "-c",
                    "echo written >/dev/tty; stat -c %u $(tty)"], words=("written", "1000"))
    smoke.terminal([*run, "-it", "box", "sleep", "60"], b"\x03", code=(130, 0, 1, 143))


def life(smoke, cli):
    """A container that stays."""
    smoke.check([*cli, "run", "--detach", "--name", "box", "--ipc", "shareable", "box", "sh", "-c",
                 "trap 'echo usr1' USR1; trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done"])
    smoke.wait([*cli, "logs", "box"], "ready")
    execs(smoke, [*cli, "exec"])
    smoke.check([*cli, "top", "box"], words="sleep")
    smoke.check([*cli, "top", "box", "-o", "pid,comm"], words="COMMAND")
    smoke.check([*cli, "stats", "--no-stream", "box"], words="box")
    smoke.check([*cli, "update", "--memory", "64m", "--memory-swap", "64m", "--cpu-shares", "300",
                 "--pids-limit", "77", "box"])
    smoke.check([*cli, "exec", "box", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                 "/sys/fs/cgroup/cpu/cpu.shares", "/sys/fs/cgroup/pids/pids.max"],
                words="67108864\n300\n77")
    smoke.check([*cli, "pause", "box"])
    smoke.check([*cli, "inspect", "--format", "{{.State.Status}}", "box"], words="paused")
    smoke.check([*cli, "exec", "box", "true"], 1, "is paused")
    smoke.check([*cli, "unpause", "box"])
    smoke.check([*cli, "kill", "--signal", "USR1", "box"])
    smoke.wait([*cli, "logs", "box"], "usr1")
    smoke.check([*cli, "restart", "--time", "1", "box"])
    # Its signal is caught from then on.
    smoke.wait([*cli, "logs", "box"], "usr1\nready")
    smoke.check([*cli, "stop", "box"])
    smoke.check([*cli, "inspect", "--format", "{{.State.ExitCode}}", "box"], words="9")
    smoke.check([*cli, "start", "box"])
    smoke.check([*cli, "kill", "box"])
    smoke.wait([*cli, "inspect", "--format", "{{.State.ExitCode}}", "box"], "137")
    smoke.check([*cli, "kill", "box"], 1, "is not running")
    smoke.check([*cli, "start", "box"])
    smoke.check([*cli, "rm", "--force", "box"])
    smoke.check([*cli, "create", "--name", "made", "box", "echo", "made"])
    smoke.check([*cli, "start", "--attach", "made"], words="made")
    smoke.check([*cli, "start", "--attach", "made"], words="made")
    smoke.check([*cli, "rm", "made"])
    smoke.check([*cli, "create", "--name", "never", "box", "true"])
    smoke.check([*cli, "rm", "never"])
    smoke.check([*cli, "run", "-d", "--name", "again", "--restart", "on-failure:2", "box", "false"])
    smoke.wait([*cli, "inspect", "--format", "{{.RestartCount}}", "again"], "2")
    smoke.check([*cli, "rm", "-f", "again"])
    smoke.check([*cli, "run", "-d", "--name", "well", "--health-cmd", "test -e /bin/sh",
                 "--health-interval", "1s", "box", "sleep", "60"])
    smoke.wait([*cli, "inspect", "--format", "{{.State.Health.Status}}", "well"], "healthy")
    smoke.check([*cli, "stop", "--time", "0", "well"])
    smoke.check([*cli, "rm", "well"])
    smoke.check([*cli, "run", "-d", "--name", "oom", "--memory", "16m", "--memory-swap", "16m", "box", "sh",
                 "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 1; exit 6"])
    smoke.check([*cli, "wait", "oom"], words="6")
    smoke.check([*cli, "inspect", "--format", "{{.State.OOMKilled}}", "oom"], words="true")
    smoke.check([*cli, "rm", "oom"])


def execs(smoke, run):
    """More processes in it."""
    smoke.check([*run, "box", "echo", "inside"], words="inside")
    smoke.check([*run, "-i", "box", "cat"], words="piped", stdin=b"piped")
    smoke.check([*run, "box", "sh", "-c", "exit 5"], code=5)
    # The code is 126 up to Docker 20.10.
    smoke.check([*run, "box", "no-such"], (126, 127), "executable file not found")
    smoke.check([*run, "box", "/no/such"], (126, 127), "no such file or directory")
    smoke.check([*run, "box", "/etc/passwd"], 126, "permission denied")
    smoke.check([*run, "box", "/bin/badscript"], (1, 126, 127), "no such file or directory")
    smoke.check([*run, "box", "/tmp"], 126, "exec")
    smoke.check([*run, "--workdir", "/not/there", "box", "true"], (126, 127),
                "no such file or directory")
    smoke.check([*run, "--user", "7", "--workdir", "/tmp", "--env", "A=b", "box", "sh", "-c",
                 "id -u; pwd; echo $A"], words="7\n/tmp\nb")
    smoke.check([*run, "--user", "user", "box", "id"], words="uid=1000(user)")
    smoke.check([*run, "--privileged", "box", "true"], (0, 126))
    smoke.check([*run, "--detach", "box", "touch", "/tmp/detached"])
    smoke.wait([*run, "box", "ls", "/tmp"], "detached")
    smoke.check([*run, "box", "sh", "-c", "ls /proc/$$/fd; echo end"], words="0\n1\n2\nend", absent="3\n")
    smoke.check([*run, "box", "env"], words="PATH=", absent="LEAKED")
    smoke.check([*run, "-t", "box", "tty"], words="/dev/pts/")
    smoke.terminal([*run, "-it", "box", "sh", "-c", "read a; stty size; echo got $a; exit 4"], b"abc\n", code=4,
                   words=("33 77", "got abc"))
    smoke.check([*run, "box", "grep", "-E", "Seccomp:|CapEff", "/proc/self/status"],
                words=("Seccomp:\t2", "00000000a80425fb"))
    smoke.check([*run, "box", "sh", "-c", "readlink /proc/self/ns/pid >/tmp/a; readlink /proc/1/ns/pid"
                 " | cmp - /tmp/a && cmp /proc/self/cgroup /proc/1/cgroup"])


def shared(smoke, cli):
    """Namespaces of another container."""
    smoke.check([*cli, "run", "-d", "--name", "base", "--ipc", "shareable", "--hostname", "base", "box", "sleep",
                 "600"])
    run = [*cli, "run", "--rm"]
    smoke.check([*run, "--pid", "container:base", "--ipc", "container:base", "box", "ps"],
                words="sleep 600")
    smoke.check([*run, "--network", "container:base", "box", "hostname"], words="base")
    smoke.check([*cli, "exec", "base", "touch", "/dev/shm/mark"])
    smoke.check([*run, "--ipc", "container:base", "box", "ls", "/dev/shm"], words="mark")
    smoke.check([*cli, "run", "-d", "--name", "guest", "--pid", "container:base", "box", "sh", "-c",
                 "sleep 700 & sleep 700"])
    smoke.check([*cli, "exec", "guest", "ps"], words="sleep 600")
    smoke.check([*cli, "kill", "guest"])
    smoke.wait([*cli, "inspect", "--format", "{{.State.Status}}", "guest"], "exited")
    time.sleep(0.3)
    smoke.check([*cli, "exec", "base", "ps"], words="sleep 600", absent="sleep 700")
    smoke.check([*cli, "rm", "-f", "guest", "base"])


def images(smoke, cli):
    """A build with RUN, as docker does it without BuildKit."""
    context = smoke.path("context")
    os.mkdir(context)
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write('FROM box\nRUN echo built >/built && adduser -D -H -u 55 cook 2>/dev/null; true\n'
                   'USER 55\nRUN id -u >/tmp/id\nCMD ["cat", "/built", "/tmp/id"]\n')
    env = ["env", "DOCKER_BUILDKIT=0"]
    smoke.check([*env, *cli, "build", "--tag", "made", context], words="Successfully tagged made")
    smoke.check([*cli, "run", "--rm", "made"], words="built\n55")
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write("FROM box\nRUN exit 12\n")
    smoke.check([*env, *cli, "build", context], code=12, words="returned a non-zero code: 12")


def remapped(smoke):
    """A daemon whose containers have a user namespace."""
    for kind in ("subuid", "subgid"):
        with open(smoke.path(kind), "w", encoding="utf-8") as file:
            file.write("nobody:100000:65536\n")
        # In this world only.
        subprocess.run(["mount", "--bind", smoke.path(kind), "/etc/" + kind], check=True)
    # The mapped root has to get through to the daemon's directory.
    os.chmod(smoke.scratch, 0o755)
    cli = start(smoke, "mapped", ["--userns-remap=nobody:nogroup"])
    smoke.check([*cli, "load", "--input", smoke.image()], words="box")
    run = [*cli, "run", "--rm"]
    smoke.check([*run, "box", "cat", "/proc/self/uid_map", "/proc/self/gid_map"], words="100000      65536")
    smoke.check([*run, "--user", "1000:1001", "--tmpfs", "/scratch:mode=1777", "--hostname", "web", "box",
                 "sh", "-c", "id -u; touch /scratch/f; stat -c %u:%g /scratch/f; hostname; echo x >/dev/null"],
                words="1000\n1000:1001\nweb")
    smoke.check([*run, "--read-only", "--memory", "32m", "--volume", "named:/vol", "box", "sh", "-c",
                 "touch /vol/f && touch /f"], 1, "Read-only")
    smoke.check([*run, "--userns=host", "box", "cat", "/proc/self/uid_map"], words="4294967295")
    smoke.check([*run, "-t", "box", "tty"], words="/dev/pts/0")
    smoke.check([*run, "box", "/no/such"], 127, "no such file or directory")
    smoke.check([*cli, "run", "-d", "--name", "box", "box", "sleep", "600"])
    smoke.check([*cli, "exec", "box", "cat", "/proc/self/uid_map"], words="100000      65536")
    smoke.check([*cli, "exec", "-t", "--user", "1000", "box", "sh", "-c", "tty; id -u"],
                words=("/dev/pts/", "1000"))
    smoke.check([*run, "--pid", "container:box", "--ipc", "none", "box", "ps"], words="sleep 600")
    smoke.check([*cli, "rm", "-f", "box"])
