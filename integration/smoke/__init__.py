"""What the engines' checks share: commands with their expected exit codes and words."""

import os
import pty
import select
import subprocess
import sys
import time

LIMIT = 90


class Smoke:
    """Runs commands of one engine; counts and prints what went wrong."""

    def __init__(self, engine, scratch, runtime):
        self.engine, self.scratch, self.runtime = engine, scratch, runtime
        self.state = os.path.join(scratch, "state")
        self.passed, self.failed = 0, 0

    def check(self, argv, code=0, words="", stdin=b"", absent=None):
        """Runs a command; its code (one of several) and a part of its output are as expected."""
        try:
            done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
            said, got = done.stdout.decode(errors="replace"), done.returncode
        except subprocess.TimeoutExpired:
            said, got = "", f"no end after {LIMIT} s"
        self.judge(argv, (got, said), (code, words, absent))
        return said

    def terminal(self, argv, typed=b"", code=0, words=""):
        """As `check`, with a terminal of 33 rows and 77 columns at which `typed` is entered."""
        pid, master = pty.fork()
        if pid == 0:
            os.execvp("sh", ["sh", "-c", 'stty rows 33 cols 77; exec "$@"', "sh", *argv])
        said, end, typed_at = b"", time.monotonic() + LIMIT, time.monotonic() + 1.5
        while time.monotonic() < end:
            if typed and time.monotonic() > typed_at:
                os.write(master, typed)
                typed = b""
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                read = os.read(master, 4096)
            except OSError:
                break
            if not read:
                break
            said += read
        else:
            os.kill(pid, 9)
        got = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(master)
        self.judge(argv, (got, said.decode(errors="replace").replace("\r\n", "\n")),
                   (code, words, None))

    def judge(self, argv, result, wanted):
        """Counts a result; one that is not as wanted is printed."""
        (got, said), (code, words, absent) = result, wanted
        codes = code if isinstance(code, tuple) else (code,)
        parts = words if isinstance(words, tuple) else (words,)
        if got in codes and all(part in said for part in parts) and not (absent and absent in said):
            self.passed += 1
            return
        self.failed += 1
        print(f"{self.engine}: {' '.join(argv)}\n  code {got}, wanted {code}; wanted words "
              f"{words!r}{f', and not {absent!r}' if absent else ''}\n  {said.strip()[-1500:]}",
              flush=True)

    def wait(self, argv, words, seconds=20):
        """Repeats a command until its output has `words`."""
        said, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, check=False)
            said = done.stdout.decode(errors="replace")
            if words in said:
                break
            time.sleep(0.1)
        self.judge(argv, (0, said), (0, words, None))

    def daemon(self, argv, ready):
        """Starts a daemon and waits until a command succeeds."""
        log = open(os.path.join(self.scratch, "daemon.log"), "ab")
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(300):
            done = subprocess.run(ready, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  check=False)
            if done.returncode == 0:
                return process
            time.sleep(0.1)
        with open(log.name, encoding="utf-8", errors="replace") as file:
            sys.exit(f"{argv[0]} does not start:\n{file.read()[-3000:]}")

    def path(self, *names):
        """A path in the state directory."""
        return os.path.join(self.state, *names)

    def image(self):
        """The docker-archive of the image `box`."""
        return os.path.join(self.scratch, "box.tar")
