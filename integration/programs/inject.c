// Runs a program and lets one of its system calls go wrong:
//
//     inject KILL|ERRNO runtime|child N PROGRAM [ARG…]
//
// At the N-th system call of the program itself (runtime) or of the processes that it makes, taken
// together (child), that process is killed before the call, or the call is left out and answers
// with the error. Processes are counted until they execute the payload: the program's own copies
// and what it executes from memory files are still the runtime. strace cannot do this: it counts
// each system call by its name. The exit code is the program's, 128+n at a signal, or 99 with
// nothing said if there is no N-th call.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4194304 };  // pid_max at most

static pid_t runtime;
static int error;  // 0: kill
static int children;
static long when;
static long seen;
static int started;  // the program has been executed
static unsigned char failing[MOST];  // pids between the entry and the exit of the call that fails

static void must(int done, const char *what) {
    if (!done) {
        perror(what);
        exit(125);
    }
}

// Whether execve(2) led to another program than the runtime.
static int is_payload(pid_t pid, const char *program) {
    char link[64], exe[4096];
    snprintf(link, sizeof link, "/proc/%d/exe", pid);
    ssize_t length = readlink(link, exe, sizeof exe - 1);
    if (length < 0) return 0;
    exe[length] = 0;
    const char *base = strrchr(program, '/');
    return !strstr(exe, "memfd:") && !strstr(exe, base ? base : program);
}

static int is_directory(pid_t pid, int fd) {
    char link[64];
    struct stat found;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, fd);
    return stat(link, &found) == 0 && S_ISDIR(found.st_mode);
}

// Calls that never fail in the kernel (umask, the clock, random numbers, close-on-exec, the end of a
// process, the return of a signal handler, closing a directory), and memory and the registers of the
// thread, without which nobody goes on.
static int can_fail(pid_t pid, const struct __ptrace_syscall_info *info) {
    static const long never[] = {SYS_exit, SYS_exit_group, SYS_rt_sigreturn, SYS_mmap, SYS_munmap,
                                 SYS_brk, SYS_umask, SYS_clock_gettime, SYS_getrandom, SYS_arch_prctl};
    long call = info->entry.nr;
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (call == never[i]) return 0;
    if (call == SYS_close) return !is_directory(pid, info->entry.args[0]);
    return call != SYS_fcntl || info->entry.args[1] != F_SETFD;
}

static void entry(pid_t pid, const struct __ptrace_syscall_info *info) {
    if (!started || (pid != runtime) != children) return;
    if ((error && !can_fail(pid, info)) || ++seen != when) return;
    if (!error) {
        kill(pid, SIGKILL);
        return;
    }
    failing[pid] = 1;
    if (info->entry.nr == SYS_close) return;  // a descriptor is closed even where close(2) fails
    struct user_regs_struct regs;
    must(ptrace(PTRACE_GETREGS, pid, 0, &regs) == 0, "GETREGS");
    regs.orig_rax = -1;
    ptrace(PTRACE_SETREGS, pid, 0, &regs);
}

static void leave(pid_t pid) {
    struct user_regs_struct regs;
    if (!failing[pid] || ptrace(PTRACE_GETREGS, pid, 0, &regs) != 0) return;
    regs.rax = -(long)error;
    failing[pid] = 0;
    ptrace(PTRACE_SETREGS, pid, 0, &regs);
}

// Looks at a stop; what the process goes on with, or -1 if it is left alone from now on.
static long look(pid_t pid, int status, const char *program) {
    int signal = WSTOPSIG(status), event = status >> 16;
    if (signal == (SIGTRAP | 0x80)) {
        struct __ptrace_syscall_info info;
        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0) return 0;
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) entry(pid, &info);
        if (info.op == PTRACE_SYSCALL_INFO_EXIT) leave(pid);
        return 0;
    }
    if (event == PTRACE_EVENT_EXEC) {
        started = 1;
        if (is_payload(pid, program)) return -1;
    }
    return event ? 0 : signal;
}

int main(int argc, char **argv) {
    if (argc < 5) return 125;
    error = strcmp(argv[1], "KILL") ? atoi(argv[1]) : 0;
    children = !strcmp(argv[2], "child");
    when = atol(argv[3]);
    int ready[2];
    must(pipe(ready) == 0, "pipe");
    runtime = fork();
    if (runtime == 0) {
        char byte;
        close(ready[1]);
        if (read(ready[0], &byte, 1) != 1) _exit(125);
        close(ready[0]);
        execvp(argv[4], argv + 4);
        _exit(127);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                   PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    must(ptrace(PTRACE_SEIZE, runtime, 0, options) == 0, "SEIZE");
    must(ptrace(PTRACE_INTERRUPT, runtime, 0, 0) == 0, "INTERRUPT");
    must(write(ready[1], "", 1) == 1, "write");
    close(ready[0]);
    close(ready[1]);
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0 && errno == EINTR) continue;
        must(pid > 0, "waitpid");
        if (WIFSTOPPED(status)) {
            long next = look(pid, status, argv[4]);
            ptrace(next < 0 ? PTRACE_DETACH : PTRACE_SYSCALL, pid, 0, next < 0 ? 0 : next);
        } else if (pid == runtime) {
            if (seen < when) return 99;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}
