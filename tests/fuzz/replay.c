/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz harness over kept inputs where there is no libFuzzer: every file of the directories
 * on the command line. An empty or missing corpus is an error, or the test could not fail.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return -1;
	}
	fseek(file, 0, SEEK_END);
	long size = ftell(file);
	rewind(file);
	if (size < 0) { /* a directory opens, but has no size */
		fclose(file);
		return 0;
	}
	/* Exactly as large as the input: the address sanitizer sees one byte too far. */
	uint8_t *data = malloc(size ? (size_t)size : 1);
	size_t have = data ? fread(data, 1, (size_t)size, file) : 0;
	fclose(file);
	LLVMFuzzerTestOneInput(data, have);
	free(data);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned n = 0;

	for (int i = 1; i < argc; i++) {
		DIR *directory = opendir(argv[i]);
		if (!directory) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *entry; (entry = readdir(directory));) {
			char path[4096];
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
			int done = replay_file(path);
			if (done < 0)
				return 1;
			n += (unsigned)done;
		}
		closedir(directory);
	}
	printf("%u inputs replayed\n", n);
	return n == 0;
}
