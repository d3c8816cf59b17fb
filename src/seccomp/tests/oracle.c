/* Builds a filter with libseccomp from lines on stdin, as runc does, and writes the program to
 * stdout. Names that libseccomp does not know are written to stderr and left out.
 *
 *   default ACTION ERRNO
 *   arch NAME                        "only NAME" first drops the native one
 *   rule ACTION ERRNO CALL N (INDEX OP VALUE VALUE_TWO)*N
 */
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned action(const char *name, unsigned data)
{
	if (!strcmp(name, "SCMP_ACT_KILL_PROCESS")) return SCMP_ACT_KILL_PROCESS;
	if (!strcmp(name, "SCMP_ACT_TRAP")) return SCMP_ACT_TRAP;
	if (!strcmp(name, "SCMP_ACT_ERRNO")) return SCMP_ACT_ERRNO(data);
	if (!strcmp(name, "SCMP_ACT_TRACE")) return SCMP_ACT_TRACE(data);
	if (!strcmp(name, "SCMP_ACT_ALLOW")) return SCMP_ACT_ALLOW;
	if (!strcmp(name, "SCMP_ACT_LOG")) return SCMP_ACT_LOG;
	if (!strcmp(name, "SCMP_ACT_NOTIFY")) return SCMP_ACT_NOTIFY;
	return SCMP_ACT_KILL_THREAD;
}

static enum scmp_compare compare(const char *name)
{
	static const char *names[] = { "NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ" };
	for (int i = 0; i < 7; i++)
		if (!strcmp(name + strlen("SCMP_CMP_"), names[i]))
			return SCMP_CMP_NE + i;
	return 0;
}

static void check(int rc, const char *what)
{
	if (rc < 0) {
		fprintf(stderr, "failed %s: %s\n", what, strerror(-rc));
		exit(1);
	}
}

int main(void)
{
	char word[16], name[64], call[64], op[64];
	unsigned data, count, index, standard = 0;
	unsigned long long a, b;
	scmp_filter_ctx ctx = NULL;

	seccomp_api_set(6);
	while (scanf("%15s", word) == 1) {
		if (!strcmp(word, "default") && scanf("%63s %u", name, &data) == 2) {
			ctx = seccomp_init(standard = action(name, data));
		} else if (!strcmp(word, "only") && scanf("%63s", name) == 1) {
			check(seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE), "remove");
			check(seccomp_arch_add(ctx, seccomp_arch_resolve_name(name)), name);
		} else if (!strcmp(word, "arch") && scanf("%63s", name) == 1) {
			int rc = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			check(rc == -17 ? 0 : rc, name);
		} else if (!strcmp(word, "rule") &&
			   scanf("%63s %u %63s %u", name, &data, call, &count) == 4) {
			struct scmp_arg_cmp args[6];
			for (unsigned i = 0; i < count; i++) {
				if (scanf("%u %63s %llu %llu", &index, op, &a, &b) != 4)
					return 2;
				args[i] = (struct scmp_arg_cmp){ index, compare(op), a, b };
			}
			int nr = seccomp_syscall_resolve_name(call);
			if (nr == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", call);
				continue;
			}
			unsigned act = action(name, data);
			if (act == standard)
				continue;
			check(seccomp_rule_add_array(ctx, act, nr, count, args), call);
			/* As a list, 2.5.4 does not load the number if the first call of a
			 * filter with x32 is one that x86-64 lacks; as a tree it does. */
			seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		} else {
			return 2;
		}
	}
	check(seccomp_export_bpf(ctx, 1), "export");
	return 0;
}
