/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/host_state.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/log.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

enum { LOCK_WAIT_MS = 5000, LOCK_RETRY_MS = 20, LINE_MAX_BYTES = 160 };

static void read_boot(char out[40])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	snprintf(out, 40, "unknown");
	if (!file)
		return;
	if (fscanf(file, "%39s", out) != 1)
		snprintf(out, 40, "unknown");
	fclose(file);
}

static uint64_t read_netns(void)
{
	uint64_t cookie = 0;
	socklen_t size = sizeof cookie;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) < 0)
		cookie = 0; /* an older kernel: boot and inode must do */
	if (fd >= 0)
		close(fd);
	return cookie;
}

/* Whether the lock that was got is still that of the path: its holder may have removed it. */
static bool is_current(int fd, const char *path)
{
	struct stat held, named;
	return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
	       held.st_dev == named.st_dev;
}

static void say_locked(int fd)
{
	char pid[16] = "?";
	ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
	pid[n > 0 ? strcspn(pid, "\n") : 1] = 0;
	log_error("another conat-dataplane (process %s) runs in this network namespace; stop it "
		  "first, or use another namespace",
		  pid);
}

static int take_lock(const char *path, int *out)
{
	/* A predecessor that was killed may take a moment to be gone. */
	for (int waited = 0;; waited += LOCK_RETRY_MS) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0) {
			log_error("cannot open %s: %s", path, strerror(errno));
			return ERR_IO;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_current(fd, path)) {
			if (ftruncate(fd, 0) == 0)
				dprintf(fd, "%d\n", (int)getpid());
			*out = fd;
			return 0;
		}
		if (waited >= LOCK_WAIT_MS)
			say_locked(fd);
		close(fd);
		if (waited >= LOCK_WAIT_MS)
			return ERR_EXISTS;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_RETRY_MS * MS_NS}, NULL);
	}
}

int host_state_open(const char *run_dir, struct host_state *out)
{
	struct stat netns;
	memset(out, 0, sizeof *out);
	out->lock = -1;
	if (mkdir(run_dir, 0755) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", run_dir, strerror(errno));
		return ERR_IO;
	}
	if (stat("/proc/self/ns/net", &netns) < 0) {
		log_error("cannot tell the network namespace: /proc/self/ns/net: %s",
			  strerror(errno));
		return ERR_IO;
	}
	snprintf(out->path, sizeof out->path, "%s/netns-%ju.state", run_dir,
		 (uintmax_t)netns.st_ino);
	snprintf(out->lock_path, sizeof out->lock_path, "%s/netns-%ju.lock", run_dir,
		 (uintmax_t)netns.st_ino);
	read_boot(out->boot);
	out->netns = read_netns();
	return take_lock(out->lock_path, &out->lock);
}

void host_state_close(struct host_state *state)
{
	if (state->lock >= 0) {
		unlink(state->lock_path); /* while it is held: see is_current */
		close(state->lock);
	}
	state->lock = -1;
}

static bool header_matches(const struct host_state *state, FILE *file)
{
	int version = 0;
	char boot[40] = "";
	uint64_t netns = 0;
	return fscanf(file, "conat-host %d boot %39s netns %" SCNu64 "\n", &version, boot,
		      &netns) == 3 &&
	       version == 1 && strcmp(boot, state->boot) == 0 && netns == state->netns;
}

int host_state_read(const struct host_state *state, struct host_plan *out)
{
	char line[LINE_MAX_BYTES];
	int err = 0;
	out->n = 0;
	FILE *file = fopen(state->path, "re");
	if (!file)
		return errno == ENOENT ? 0 : ERR_IO;
	if (!header_matches(state, file)) {
		fclose(file);
		unlink(state->path);
		return 0;
	}
	while (!err && fgets(line, sizeof line, file)) {
		struct host_item item;
		char *end = strchr(line, '\n');
		if (!end)
			break; /* the crash tore the last line: its change was not made */
		*end = 0;
		if (host_item_parse(line, &item) == 0)
			err = host_plan_append(out, &item);
		else
			log_warning("%s: line \"%s\" is not understood and ignored", state->path,
				    line);
	}
	fclose(file);
	return err;
}

static bool write_header(const struct host_state *state, FILE *file)
{
	return fprintf(file, "conat-host 1 boot %s netns %" PRIu64 "\n", state->boot,
		       state->netns) > 0;
}

static bool write_item(const struct host_item *item, FILE *file)
{
	char line[LINE_MAX_BYTES];
	host_item_format(item, line, sizeof line);
	return fprintf(file, "%s\n", line) > 0;
}

int host_state_append(const struct host_state *state, const struct host_item *item)
{
	FILE *file = fopen(state->path, "ae");
	bool ok = file != NULL;
	if (ok && ftell(file) == 0)
		ok = write_header(state, file);
	ok = ok && write_item(item, file);
	if (file && fclose(file) != 0)
		ok = false;
	if (!ok)
		log_error("cannot write %s: %s", state->path, strerror(errno));
	return ok ? 0 : ERR_IO;
}

int host_state_write(const struct host_state *state, const struct host_plan *plan)
{
	char temporary[HOST_PATH_MAX + 8];
	if (plan->n == 0) {
		unlink(state->path);
		return 0;
	}
	snprintf(temporary, sizeof temporary, "%s.new", state->path);
	FILE *file = fopen(temporary, "we");
	bool ok = file && write_header(state, file);
	for (unsigned i = 0; i < plan->n && ok; i++)
		ok = write_item(&plan->items[i], file);
	if (file && fclose(file) != 0)
		ok = false;
	if (!ok || rename(temporary, state->path) < 0) {
		log_error("cannot write %s: %s", state->path, strerror(errno));
		unlink(temporary);
		return ERR_IO;
	}
	return 0;
}
