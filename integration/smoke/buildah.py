"""buildah run and builds."""

import os


def run(smoke):
    """All checks."""
    cli = ["buildah", "--root", smoke.path("root"), "--runroot", smoke.path("run")]
    smoke.check([*cli, "pull", "docker-archive:" + smoke.image()])
    smoke.check([*cli, "from", "--name", "work", "localhost/box:latest"])
    before = [*cli, "run", "--runtime", smoke.runtime, "--network", "none"]
    run = [*before, "work", "--"]
    smoke.check([*run, "echo", "hello"], words="hello")
    smoke.check([*run, "sh", "-c", "exit 7"], code=7)
    smoke.check([*run, "no-such"], code=(1, 127), words="executable file not found")
    smoke.check([*run, "/etc/passwd"], code=(1, 126), words="permission denied")
    smoke.check([*run, "sh", "-c", "echo made >/made"])
    smoke.check([*run, "cat", "/made"], words="made")
    # In one write: the runtime's warnings, which Buildah passes on, come in between whenever they like.
    smoke.check([*run, "sh", "-c", "ls /proc/1/fd; true"], words="0\n1\n2", absent="3\n")
    smoke.check([*run, "env"], words="PATH=", absent="LEAKED")
    smoke.check([*before, "--user", "1000", "--workingdir", "/tmp", "--cap-drop", "CAP_CHOWN", "--hostname",
                 "web", "work", "--", "sh", "-c", "id -u; pwd; hostname"], words="1000\n/tmp\nweb")
    smoke.check([*before, "--volume", smoke.scratch + ":/data:ro", "work", "--", "ls", "/data"],
                words="box.tar")
    smoke.terminal([*before, "-t", "work", "--", "sh", "-c", "tty; read a; echo got $a"], b"abc\n",
                   words=("/dev/pts/0", "got abc"))
    smoke.check([*cli, "rm", "work"])
    build(smoke, cli)


def build(smoke, cli):
    """RUN lines in a Dockerfile."""
    context = smoke.path("context")
    os.mkdir(context)
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write("FROM localhost/box:latest\nRUN echo built >/built\nUSER 55\nRUN id -u >/tmp/id\n"
                   "RUN cat /built /tmp/id\n")
    bud = [*cli, "bud", "--runtime", smoke.runtime, "--network", "none", "--pull-never"]
    smoke.check([*bud, "--tag", "made", context], words="built\n55")
    smoke.check([*bud, "--memory", "64m", "--ulimit", "nofile=64:64", "--tag", "made", context],
                words="built\n55")
    with open(os.path.join(context, "Dockerfile"), "w", encoding="utf-8") as file:
        file.write("FROM localhost/box:latest\nRUN exit 12\n")
    smoke.check([*bud, context], code=(12, 125), words="exit status 12")
