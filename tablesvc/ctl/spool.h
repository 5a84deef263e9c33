/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Output that does not block whoever prints: a bounded buffer that a thread of its own writes out.
 * Without it, a pager that stops reading would stop the connection too: nobody would answer the
 * service's keepalive, and the list would end in the middle.
 */
#ifndef CTL_SPOOL_H
#define CTL_SPOOL_H

#include <stdbool.h>
#include <stdio.h>

struct spool;

enum { SPOOL_BYTES = 256 << 10 };

/* fd is borrowed. 0, ERR_NOMEM. */
int spool_new(int fd, struct spool **out);
/* What to print on; belongs to the spool. Blocks only while SPOOL_BYTES are waiting. */
FILE *spool_file(struct spool *spool);
/* Half of it is free: room for any one reply. */
bool spool_has_room(struct spool *spool);
/* Writing has failed; nothing more will come out. */
bool spool_failed(struct spool *spool);
/* Waits until all is written, frees. 0, ERR_IO. */
int spool_free(struct spool *spool);

#endif
