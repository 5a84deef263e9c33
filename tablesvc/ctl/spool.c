/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/spool.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/err.h"

struct spool {
	int fd;
	FILE *file;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t head, used; /* ring */
	bool closing, failed;
	char bytes[SPOOL_BYTES];
};

static void *write_out(void *context)
{
	struct spool *spool = context;

	pthread_mutex_lock(&spool->lock);
	for (;;) {
		while (spool->used == 0 && !spool->closing)
			pthread_cond_wait(&spool->changed, &spool->lock);
		if (spool->used == 0)
			break;
		size_t run = SPOOL_BYTES - spool->head;
		run = spool->used < run ? spool->used : run;
		pthread_mutex_unlock(&spool->lock);
		ssize_t n = write(spool->fd, spool->bytes + spool->head, run);
		int err = n < 0 ? errno : 0;
		pthread_mutex_lock(&spool->lock);
		if (n >= 0) {
			spool->head = (spool->head + (size_t)n) % SPOOL_BYTES;
			spool->used -= (size_t)n;
		} else if (err != EINTR) {
			spool->failed = true;
			spool->used = 0;
		}
		pthread_cond_broadcast(&spool->changed);
	}
	pthread_mutex_unlock(&spool->lock);
	return NULL;
}

static ssize_t take(void *cookie, const char *data, size_t size)
{
	struct spool *spool = cookie;
	size_t done = 0;

	pthread_mutex_lock(&spool->lock);
	while (done < size && !spool->failed) {
		if (spool->used == SPOOL_BYTES) {
			pthread_cond_wait(&spool->changed, &spool->lock);
			continue;
		}
		size_t tail = (spool->head + spool->used) % SPOOL_BYTES;
		size_t run = tail < spool->head ? spool->head - tail : SPOOL_BYTES - tail;
		run = size - done < run ? size - done : run;
		memcpy(spool->bytes + tail, data + done, run);
		spool->used += run;
		done += run;
		pthread_cond_broadcast(&spool->changed);
	}
	bool failed = spool->failed;
	pthread_mutex_unlock(&spool->lock);
	return failed ? 0 : (ssize_t)done; /* of a cookie, 0 is the error */
}

int spool_new(int fd, struct spool **out)
{
	struct spool *spool = calloc(1, sizeof *spool);

	if (!spool)
		return ERR_NOMEM;
	spool->fd = fd;
	spool->file = fopencookie(spool, "w", (cookie_io_functions_t){.write = take});
	if (!spool->file) {
		free(spool);
		return ERR_NOMEM;
	}
	pthread_mutex_init(&spool->lock, NULL);
	pthread_cond_init(&spool->changed, NULL);
	if (pthread_create(&spool->thread, NULL, write_out, spool) != 0) {
		fclose(spool->file);
		free(spool);
		return ERR_NOMEM;
	}
	*out = spool;
	return 0;
}

FILE *spool_file(struct spool *spool)
{
	return spool->file;
}

bool spool_has_room(struct spool *spool)
{
	pthread_mutex_lock(&spool->lock);
	bool room = spool->failed || spool->used <= SPOOL_BYTES / 2;
	pthread_mutex_unlock(&spool->lock);
	return room;
}

bool spool_failed(struct spool *spool)
{
	pthread_mutex_lock(&spool->lock);
	bool failed = spool->failed;
	pthread_mutex_unlock(&spool->lock);
	return failed;
}

int spool_free(struct spool *spool)
{
	fclose(spool->file);
	pthread_mutex_lock(&spool->lock);
	spool->closing = true;
	pthread_cond_broadcast(&spool->changed);
	pthread_mutex_unlock(&spool->lock);
	pthread_join(spool->thread, NULL);
	bool failed = spool->failed;
	pthread_cond_destroy(&spool->changed);
	pthread_mutex_destroy(&spool->lock);
	free(spool);
	return failed ? ERR_IO : 0;
}
