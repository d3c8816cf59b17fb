// The floor: the kernel work of `run` for runc's default spec, and nothing else. No file is
// parsed, no state is kept, nothing is checked that the kernel does not check by itself. What a
// runtime takes beyond this is its own.
//
//     floor [--cgroup] ROOTFS PROGRAM
//
// With --cgroup the process also joins a new cgroup in each v1 hierarchy below /sys/fs/cgroup,
// gets the default device rules, and sees its cgroups at /sys/fs/cgroup.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(call) do { if ((call) < 0) fail(#call); } while (0)

static char hierarchies[32][64];
static int hierarchy_count;
static char group[32];

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(125);
}

static void find_hierarchies(void)
{
	DIR *dir = opendir("/sys/fs/cgroup");
	if (!dir)
		fail("open /sys/fs/cgroup");
	for (struct dirent *e; (e = readdir(dir)) && hierarchy_count < 32;)
		if (e->d_type == DT_DIR && e->d_name[0] != '.' && strcmp(e->d_name, "unified"))
			snprintf(hierarchies[hierarchy_count++], 64, "%s", e->d_name);
	closedir(dir);
}

static const char *cgroup_file(int i, const char *file)
{
	static char path[256];
	snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s/%s", hierarchies[i], group, file);
	return path;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(path);
	close(fd);
}

static void copy_parent_cpuset(int i, const char *file)
{
	char path[256], value[256] = "";
	snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], file);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, value, sizeof value - 1);
	if (n < 0)
		fail(path);
	close(fd);
	write_file(cgroup_file(i, file), value);
}

static void write_device_rules(int i)
{
	static const char *allowed[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
		"c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm" };
	write_file(cgroup_file(i, "devices.deny"), "a");
	for (unsigned r = 0; r < sizeof allowed / sizeof *allowed; r++)
		write_file(cgroup_file(i, "devices.allow"), allowed[r]);
}

static void make_cgroups(void)
{
	for (int i = 0; i < hierarchy_count; i++) {
		CHECK(mkdir(cgroup_file(i, ""), 0755));
		if (!strcmp(hierarchies[i], "cpuset")) {
			copy_parent_cpuset(i, "cpuset.cpus");
			copy_parent_cpuset(i, "cpuset.mems");
		}
		if (!strcmp(hierarchies[i], "devices"))
			write_device_rules(i);
	}
}

static void join_cgroups(pid_t pid)
{
	char text[16];
	snprintf(text, sizeof text, "%d", pid);
	for (int i = 0; i < hierarchy_count; i++)
		write_file(cgroup_file(i, "cgroup.procs"), text);
}

static void mount_on(const char *type, const char *target, unsigned long flags, const char *data)
{
	if (mkdir(target, 0755) < 0 && errno != EEXIST)
		fail(target);
	if (mount(type, target, type, flags, data) < 0)
		fail(target);
}

static void make_devices(void)
{
	static const struct { const char *path; int major, minor; } nodes[] = {
		{ "dev/null", 1, 3 }, { "dev/zero", 1, 5 }, { "dev/full", 1, 7 },
		{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
		CHECK(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	CHECK(symlink("/proc/self/fd", "dev/fd"));
	CHECK(symlink("/proc/self/fd/0", "dev/stdin"));
	CHECK(symlink("/proc/self/fd/1", "dev/stdout"));
	CHECK(symlink("/proc/self/fd/2", "dev/stderr"));
	CHECK(symlink("pts/ptmx", "dev/ptmx"));
}

static void mount_cgroups(void)
{
	const unsigned long flags = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	mount_on("tmpfs", "sys/fs/cgroup", flags, "mode=755");
	for (int i = 0; i < hierarchy_count; i++) {
		char target[256];
		snprintf(target, sizeof target, "sys/fs/cgroup/%s", hierarchies[i]);
		CHECK(mkdir(target, 0755));
		CHECK(mount(cgroup_file(i, ""), target, NULL, MS_BIND, NULL));
		CHECK(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL));
	}
	CHECK(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL));
}

static void mount_all(const char *rootfs)
{
	const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
	CHECK(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL));
	CHECK(chdir(rootfs));
	mount_on("proc", "proc", 0, NULL);
	mount_on("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	mount_on("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_on("tmpfs", "dev/shm", safe, "mode=1777,size=65536k");
	mount_on("mqueue", "dev/mqueue", safe, NULL);
	mount_on("sysfs", "sys", safe | MS_RDONLY, NULL);
	if (hierarchy_count)
		mount_cgroups();
	make_devices();
}

static void enter_root(void)
{
	CHECK(syscall(SYS_pivot_root, ".", "."));
	CHECK(umount2(".", MNT_DETACH));
	CHECK(chdir("/"));
}

static void mask(const char *path)
{
	if (!mount("/dev/null", path, NULL, MS_BIND, NULL) || errno == ENOENT)
		return;
	if (errno != ENOTDIR || mount("tmpfs", path, "tmpfs", MS_RDONLY, "") < 0)
		fail(path);
}

static void make_readonly(const char *path)
{
	if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0) {
		if (errno != ENOENT)
			fail(path);
		return;
	}
	CHECK(mount(NULL, path, NULL,
		MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
}

static void hide_paths(void)
{
	static const char *masked[] = { "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
		"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
		"/sys/firmware", "/proc/scsi" };
	static const char *readonly[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
		"/proc/sysrq-trigger" };
	for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++)
		make_readonly(readonly[i]);
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++)
		mask(masked[i]);
	CHECK(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
}

static void drop_privileges(void)
{
	const unsigned keep = 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { keep, keep, 0 }, { 0, 0, 0 } };
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (cap > 31 || !(keep >> cap & 1))
			CHECK(prctl(PR_CAPBSET_DROP, cap));
	CHECK(setgroups(0, NULL));
	CHECK(setresgid(0, 0, 0));
	CHECK(setresuid(0, 0, 0));
	CHECK(syscall(SYS_capset, &header, data));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void child(int channel, const char *rootfs, char *program)
{
	char go;
	const struct rlimit files = { 1024, 1024 };
	char *argv[] = { program, NULL }, *envp[] = { "PATH=/bin", NULL };
	if (read(channel, &go, 1) != 1)
		_exit(125);
	CHECK(setsid());
	CHECK(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));
	mount_all(rootfs);
	enter_root();
	CHECK(sethostname("floor", 5));
	hide_paths();
	CHECK(setrlimit(RLIMIT_NOFILE, &files));
	drop_privileges();
	execve(program, argv, envp);
	fail(program);
}

static pid_t clone_child(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD,
		.flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS };
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	CHECK(pid);
	return pid;
}

int main(int argc, char **argv)
{
	int channel[2], status, with_cgroup = argc == 4 && !strcmp(argv[1], "--cgroup");
	if (argc - with_cgroup != 3) {
		fprintf(stderr, "usage: floor [--cgroup] ROOTFS PROGRAM\n");
		return 125;
	}
	if (with_cgroup) {
		snprintf(group, sizeof group, "floor-%d", getpid());
		find_hierarchies();
		make_cgroups();
	}
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel));
	pid_t pid = clone_child();
	if (!pid)
		child(channel[1], argv[argc - 2], argv[argc - 1]);
	join_cgroups(pid);
	CHECK(write(channel[0], "g", 1));
	CHECK(waitpid(pid, &status, 0));
	for (int i = 0; i < hierarchy_count; i++)
		CHECK(rmdir(cgroup_file(i, "")));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
