/* Makes system calls and prints what each returned, or its errno with a minus sign.
 * Arguments: NUMBER[:ARG]... ; a leading "i" makes it a call of the 32-bit ABI (int 0x80). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		long number[7] = { 0 }, result;
		int narrow = argv[i][0] == 'i';
		char *word = strtok(argv[i] + narrow, ":");
		for (int n = 0; word && n < 7; n++, word = strtok(NULL, ":"))
			number[n] = strtoul(word, NULL, 0);
		if (narrow) {
			__asm__ volatile("int $0x80"
					 : "=a"(result)
					 : "a"(number[0]), "b"(number[1]), "c"(number[2]), "d"(number[3])
					 : "memory", "r8", "r9", "r10", "r11");
			result = (int)result;
		} else {
			result = syscall(number[0], number[1], number[2], number[3], number[4],
					 number[5], number[6]);
			if (result == -1)
				result = -errno;
		}
		printf("%ld ", result);
		fflush(stdout);
	}
	return 0;
}
