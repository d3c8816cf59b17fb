/* Sends its first argument to $NOTIFY_SOCKET, and sleeps if there is a second one. */
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
	if (sendto(fd, argv[1], strlen(argv[1]), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		return 2;
	if (argc > 2)
		sleep(600);
	return 0;
}
