/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target once with each file that is given as an argument, such as a corpus or the
 * input of a crash. For builds without libFuzzer, for debuggers and for valgrind. */
#include "defer.h"
#include "fuzz.h"
#include <fcntl.h>
#include <sys/stat.h>

static int replay(const char *path)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_free_ uint8_t *bytes = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	bytes = malloc((size_t)st.st_size + 1);
	if (bytes == NULL || read(fd, bytes, (size_t)st.st_size) != st.st_size)
		return -EIO;
	LLVMFuzzerTestOneInput(bytes, (size_t)st.st_size);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		errno = -replay(argv[i]);
		if (errno != 0) {
			fprintf(stderr, "%s: %m\n", argv[i]);
			return 1;
		}
		printf("%s\n", argv[i]);
	}
	return 0;
}
