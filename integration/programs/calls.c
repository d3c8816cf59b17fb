/* Makes one system call in some way and tells what became of it. Usage: calls MODE NUMBER [ARG]...
 *
 *   plain   print what it returns, or its errno with a minus sign
 *   narrow  the same by the 32-bit ABI (int 0x80)
 *   thread  make it in a second thread, then print "main lives"
 *   trap    catch SIGSYS and print which call it was about
 *   trace   make it in a traced child and print the number that the filter gives the tracer
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned long call[7];

static long make(void)
{
	long result = syscall(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
	return result == -1 ? -errno : result;
}

static long make_narrow(void)
{
	int result = call[0];
#ifdef __x86_64__
	__asm__ volatile("int $0x80"
			 : "+a"(result)
			 : "b"(call[1]), "c"(call[2]), "d"(call[3])
			 : "memory", "r8", "r9", "r10", "r11");
#endif
	return result;
}

static void *in_thread(void *unused)
{
	make();
	return unused;
}

static void trapped(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	printf("trapped %d\n", info->si_syscall);
	exit(0);
}

static int traced(void)
{
	int status;
	unsigned long message = 0;
	pid_t child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(make() & 0x7f);
	}
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL);
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	if (status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
		return 1;
	ptrace(PTRACE_GETEVENTMSG, child, 0, &message);
	printf("traced %lu\n", message);
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	return !WIFEXITED(status);
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc && i < 9; i++)
		call[i - 2] = strtoul(argv[i], NULL, 0);
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "trace"))
		return traced();
	if (!strcmp(argv[1], "thread")) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, in_thread, NULL) || pthread_join(thread, NULL))
			return 1;
		puts("main lives");
		return 0;
	}
	if (!strcmp(argv[1], "trap")) {
		struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };
		sigaction(SIGSYS, &action, NULL);
	}
	printf("%ld\n", strcmp(argv[1], "narrow") ? make() : make_narrow());
	return 0;
}
