// Prints how the kernel treats this process, a line a setting.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

int main(void)
{
	struct attr attr;
	memset(&attr, 0, sizeof attr);
	if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0))
		perror("sched_getattr");
	printf("scheduler %u flags %llu nice %d priority %u times %llu %llu %llu\n", attr.policy,
	       (unsigned long long)attr.flags, attr.nice, attr.priority,
	       (unsigned long long)attr.runtime, (unsigned long long)attr.deadline,
	       (unsigned long long)attr.period);

	long io = syscall(SYS_ioprio_get, 1, 0);
	printf("io %ld %ld\n", io >> 13, io & 0x1fff);

	int mode = -1;
	unsigned long nodes[16] = { 0 };
	if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, 0, 0))
		perror("get_mempolicy");
	printf("memory %#x %#lx\n", mode, nodes[0]);

	printf("personality %#x\n", personality(0xffffffff));

	cpu_set_t cpus;
	CPU_ZERO(&cpus);
	if (sched_getaffinity(0, sizeof cpus, &cpus))
		perror("sched_getaffinity");
	printf("cpus");
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &cpus))
			printf(" %d", i);
	printf("\n");
	return 0;
}
