/* Sends its first argument to $NOTIFY_SOCKET. With a second one it then sleeps, or says it over and
 * over if that is "again". */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	if (!path || argc < 2 || fd < 0)
		return 1;
	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return 2;
	do {
		if (send(fd, argv[1], strlen(argv[1]), 0) < 0)
			return 3;
		usleep(argc > 2 ? 100000 : 0);
	} while (argc > 2 && !strcmp(argv[2], "again"));
	if (argc > 2)
		sleep(600);
	return 0;
}
