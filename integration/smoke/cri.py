"""Pods and containers through containerd's CRI plugin, as kubelet asks for them.

The requests are written by field numbers of kubernetes/cri-api's runtime/v1/api.proto: a client of
its own is not in Debian.
"""

import os
import subprocess
import time


def field(number, value):
    """One field of a message: numbers, texts and nested messages; a list repeats it."""
    if isinstance(value, list):
        return b"".join(field(number, item) for item in value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(fields):
    """A message from its fields by number."""
    return b"".join(field(number, message(value) if isinstance(value, dict) else value)
                    for number, value in fields.items())


def varint(number):
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def read_varint(data, at):
    """A number and where it ends."""
    number, shift = 0, 0
    while True:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def parse(data):
    """The fields of a message by number; the last of each counts."""
    fields, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            fields[tag >> 3], at = read_varint(data, at)
        else:
            length, at = read_varint(data, at)
            fields[tag >> 3] = data[at:at + length]
            at += length
    return fields


class Cri:
    """The plugin's services; a failed call's words are its answer's text."""

    def __init__(self, socket):
        import grpc  # only here: the other engines do without
        self.grpc, self.channel = grpc, grpc.insecure_channel("unix://" + socket)

    def call(self, method, fields):
        """The fields of the answer, or the words of the failure."""
        service = "ImageService" if "Image" in method else "RuntimeService"
        call = self.channel.unary_unary(f"/runtime.v1.{service}/{method}")
        try:
            return parse(call(message(fields), timeout=90)), ""
        except self.grpc.RpcError as err:
            return {}, err.details()


def run(smoke):
    """All checks."""
    socket = start(smoke)
    subprocess.run(["ctr", "--address", socket, "-n", "k8s.io", "image", "import", smoke.image()],
                   check=True, stdout=subprocess.DEVNULL)
    checks = Checks(smoke, Cri(socket))
    checks.pod = checks.sandbox("pod", {})
    if not checks.pod:
        return
    checks.life()
    checks.options()
    checks.failures()
    checks.shared()
    checks.done("StopPodSandbox", {1: checks.pod})
    checks.done("RemovePodSandbox", {1: checks.pod})
    left = subprocess.run(["ps", "-ef"], stdout=subprocess.PIPE, check=True).stdout.decode()
    smoke.judge(["processes that are left"], (0, left), (0, "", "sleep"))


def start(smoke):
    """The daemon; its socket."""
    config, socket = smoke.path("config.toml"), smoke.path("c.sock")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'version = 2\nroot = "{smoke.path("root")}"\nstate = "{smoke.path("run")}"\n'
                   f'[grpc]\naddress = "{socket}"\n'
                   '[plugins."io.containerd.grpc.v1.cri"]\nrestrict_oom_score_adj = true\n'
                   'sandbox_image = "docker.io/library/box:latest"\n'
                   '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\n'
                   'runtime_type = "io.containerd.runc.v2"\n'
                   '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]\n'
                   f'BinaryName = "{smoke.runtime}"\n')
    smoke.daemon(["containerd", "--config", config], ["ctr", "--address", socket, "version"])
    return socket


class Checks:
    """The pods and containers of one run."""

    def __init__(self, smoke, cri):
        self.smoke, self.cri, self.serial, self.pod = smoke, cri, 0, ""
        self.configs = {}

    def done(self, method, fields, words="", fails=False):
        """A call that succeeds, or fails with these words."""
        answer, error = self.cri.call(method, fields)
        self.smoke.judge([method], (int(bool(error)), error or repr(answer)), (int(fails), words, None))
        return answer

    def sandbox(self, name, namespaces):
        """A pod in the host's network."""
        config = {1: {1: name, 2: name + "-uid", 3: "test", 4: 0},
                  3: self.smoke.path("logs-" + name),
                  8: {1: "/docker/cri", 2: {1: {1: 2, **namespaces}}}}
        answer = self.done("RunPodSandbox", {1: config})
        pod = answer.get(1, b"").decode()
        self.configs[pod] = config
        return pod

    def create(self, command, more=None, linux=None, fails=None):
        """A container of the pod."""
        self.serial += 1
        config = {1: {1: f"c{self.serial}", 2: 0}, 2: {1: "docker.io/library/box:latest"}, 3: command,
                  11: f"c{self.serial}.log", **(more or {}), 15: linux or {}}
        answer = self.done("CreateContainer", {1: self.pod, 2: config, 3: self.configs[self.pod]},
                           fails or "", bool(fails))
        return answer.get(1, b"").decode()

    def launch(self, command, more=None, linux=None):
        """A started container."""
        container = self.create(command, more, linux)
        self.done("StartContainer", {1: container})
        return container

    def status(self, container, state, code=None):
        """Waits until a container has a state (1 running, 2 exited) and an exit code."""
        status, end = {}, time.monotonic() + 20
        while time.monotonic() < end and status.get(3, 0) != state:
            status = parse(self.cri.call("ContainerStatus", {1: container})[0].get(1, b""))
            time.sleep(0.1)
        same = status.get(3, 0) == state and code in (None, status.get(7, 0))
        self.smoke.judge(["ContainerStatus"], (int(not same), repr(status)), (0, "", None))

    def exec(self, container, command, words="", code=0):
        """Runs a command in a container to its end."""
        answer, error = self.cri.call("ExecSync", {1: container, 2: command, 3: 60})
        said = (answer.get(1, b"") + answer.get(2, b"")).decode() + error
        self.smoke.judge(["ExecSync", *command], (answer.get(3, 0) if not error else "error", said),
                         (code, words, None))

    def end(self, container):
        """Stops and removes a container."""
        self.done("StopContainer", {1: container, 2: 0})
        self.done("RemoveContainer", {1: container})

    def output(self, command, words, more=None, linux=None, code=0):
        """A container that ends by itself, and its log."""
        container = self.launch(command, more, linux)
        self.status(container, 2, code)
        log = os.path.join(self.configs[self.pod][3], f"c{self.serial}.log")
        said = ""
        if os.path.exists(log):
            with open(log, encoding="utf-8") as file:
                said = "\n".join(line.split(" ", 3)[-1] for line in file.read().splitlines())
        self.smoke.judge(command, (0, said), (0, words, None))
        self.done("RemoveContainer", {1: container})

    def life(self):
        """Create, start, exec, update, stats, stop, remove."""
        box = self.launch(["sleep", "600"], linux={1: {4: 64 << 20}})
        self.status(box, 1)
        self.exec(box, ["echo", "inside"], "inside")
        self.exec(box, ["sh", "-c", "exit 5"], code=5)
        self.exec(box, ["/no/such"], "no such file or directory", "error")
        self.exec(box, ["no-such"], "executable file not found in $PATH", "error")
        self.exec(box, ["sh", "-c", "ls /proc/$$/fd; echo end"], "0\n1\n2\nend")
        memory = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        self.exec(box, ["cat", memory], "67108864")
        self.done("UpdateContainerResources", {1: box, 2: {3: 300, 4: 32 << 20}})
        self.exec(box, ["cat", memory, "/sys/fs/cgroup/cpu/cpu.shares"], "33554432\n300")
        self.done("ContainerStats", {1: box})
        self.done("ListContainers", {})
        self.exec(box, ["sh", "-c", "kill -9 1; echo alive"], "alive")
        self.end(box)
        trap = self.launch(["sh", "-c", "trap 'exit 9' TERM; >/tmp/ready; while :; do sleep 0.1; done"])
        self.exec(trap, ["sh", "-c", "until [ -e /tmp/ready ]; do sleep 0.1; done; echo ready"], "ready")
        self.done("StopContainer", {1: trap, 2: 10})
        self.status(trap, 2, 9)
        self.done("RemoveContainer", {1: trap})

    def options(self):
        """What a pod's specification may ask for."""
        source = self.smoke.path("source")
        os.mkdir(source)
        subprocess.run(["mount", "-t", "tmpfs", "shared", source], check=True)
        subprocess.run(["mount", "--make-shared", source], check=True)
        self.output(["env"], "A=b c", {6: {1: "A", 2: "b c"}})
        self.output(["pwd"], "/tmp", {5: "/tmp"})
        self.output(["sh", "-c", "id -u; id -g; id -G"], "1000\n1001\n1001 5",
                    linux={2: {5: {1: 1000}, 12: {1: 1001}, 8: 5}})
        self.output(["touch", "/f"], "Read-only file system", linux={2: {7: 1}}, code=1)
        self.output(["grep", "CapEff", "/proc/self/status"], "0000000000000001",
                    linux={2: {1: {1: "CHOWN", 2: "ALL"}}})
        self.output(["grep", "-E", "NoNewPrivs|Seccomp:", "/proc/self/status"], "NoNewPrivs:\t1\nSeccomp:\t2",
                    linux={2: {11: 1, 15: {1: 0}}})
        self.output(["grep", "Seccomp:", "/proc/self/status"], "\t0", linux={2: {15: {1: 1}}})
        for propagation, words in ((0, " /m "), (1, "master:"), (2, "shared:")):
            self.output(["grep", " /m ", "/proc/self/mountinfo"], words,
                        {7: {1: "/m", 2: source, 5: propagation}})
        self.output(["touch", "/m/f"], "Read-only", {7: {1: "/m", 2: source, 3: 1}}, code=1)
        self.output(["sh", "-c", "mkdir /m/sub && mount -t tmpfs inner /m/sub && echo made"], "made",
                    {7: {1: "/m", 2: source, 5: 2}}, {2: {1: {1: "SYS_ADMIN"}, 15: {1: 1}}})
        self.smoke.check(["grep", "source/sub", "/proc/self/mountinfo"], words="inner")
        subprocess.run(["umount", source + "/sub"], check=False)
        self.output(["ls", "-l", "/dev/other"], "10, 229", {8: {1: "/dev/other", 2: "/dev/fuse", 3: "rw"}})
        self.output(["cat", "/proc/self/oom_score_adj"], "900", linux={1: {5: 900}})
        self.output(["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"], "", linux={1: {4: 16 << 20}},
                    code=137)

    def failures(self):
        """Programs that cannot be started fail in known words."""
        for program, words in (("/no/such", "no such file or directory"), ("/etc/passwd", "permission denied"),
                               ("no-such", "executable file not found in $PATH")):
            box = self.create([program])
            self.done("StartContainer", {1: box}, words, fails=True)
            self.status(box, 2)
            self.done("RemoveContainer", {1: box})

    def shared(self):
        """The pod's namespaces, and those of one of its containers."""
        first = self.launch(["sleep", "700"])
        self.exec(first, ["hostname"])
        second = self.launch(["sleep", "800"], linux={2: {3: {1: 2, 2: 3, 4: first}}})
        self.exec(second, ["ps"], "sleep 700")
        self.end(second)
        self.end(first)
        together = self.pod
        self.pod = self.sandbox("host", {2: 2})
        box = self.launch(["sleep", "700"], linux={2: {3: {1: 2, 2: 2}}})
        self.exec(box, ["ps"], "containerd")
        self.done("StopPodSandbox", {1: self.pod})
        self.status(box, 2, 137)
        self.done("RemovePodSandbox", {1: self.pod})
        self.pod = together
