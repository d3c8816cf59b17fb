// Runs commands and says what each cost. It is a small static program of its own because a
// child's ru_maxrss starts at the size of the process that spawned it: under an interpreter no
// peak below its own 10 MB could be seen.
//
// A request is a line of arguments separated by 0x1f; the answer is a line
// "WALL_NS CPU_US MAXRSS_KIB STATUS", CPU and memory with all waited-for descendants,
// STATUS as a shell has it. A command that takes longer than 120 s is killed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static volatile pid_t running;

static void on_alarm(int signal)
{
	(void)signal;
	if (running > 0)
		kill(running, SIGKILL);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long micros(struct timeval t)
{
	return t.tv_sec * 1000000L + t.tv_usec;
}

static void measure(char **argv, posix_spawn_file_actions_t *quiet)
{
	int status = 0;
	struct rusage usage = { 0 };
	const struct itimerval limit = { { 0, 0 }, { 120, 0 } }, off = { { 0, 0 }, { 0, 0 } };
	pid_t pid;
	long long start = now();
	int err = posix_spawn(&pid, argv[0], quiet, NULL, argv, environ);
	if (err) {
		printf("0 0 0 127\n");
		return;
	}
	running = pid;
	setitimer(ITIMER_REAL, &limit, NULL);
	while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR)
		;
	long long end = now();
	running = 0;
	setitimer(ITIMER_REAL, &off, NULL);
	printf("%lld %ld %ld %d\n", end - start, micros(usage.ru_utime) + micros(usage.ru_stime),
	       usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(void)
{
	static char line[16384];
	char *argv[128];
	posix_spawn_file_actions_t quiet;
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	signal(SIGALRM, on_alarm);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		int argc = 0;
		line[strcspn(line, "\n")] = 0;
		for (char *arg = strtok(line, "\x1f"); arg && argc < 127; arg = strtok(NULL, "\x1f"))
			argv[argc++] = arg;
		argv[argc] = NULL;
		if (argc)
			measure(argv, &quiet);
	}
	return 0;
}
