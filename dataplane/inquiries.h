/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about fragments on their way to the table. What they are about waits with the engine
 * (fragments.h); here is only what has to be asked, and asked again when the streams broke, and
 * until when somebody wants to know. In the order of their making, which is that of their deadlines.
 */
#ifndef DATAPLANE_INQUIRIES_H
#define DATAPLANE_INQUIRIES_H

#include <stdbool.h>
#include "common/base/clock.h"
#include "common/wire/wire.h"

struct inquiries;

/* Names one: {generation, slot}, never 0; of a recycled slot it finds nothing. */
typedef uint64_t inquiry_id;

int inquiries_new(uint32_t capacity, struct inquiries **out);
void inquiries_free(struct inquiries *inquiries);

/* datagram: the engine's, handed back. False: no room. */
bool inquiries_add(struct inquiries *inquiries, const struct wire_request *request,
		   uint64_t datagram, struct monotime deadline);
/* The next one to ask, marked asked; 0 when there is none. */
inquiry_id inquiries_next(struct inquiries *inquiries, struct wire_request *out);
bool inquiries_has_next(const struct inquiries *inquiries);
/* Ends one. False: it has ended before. */
bool inquiries_take(struct inquiries *inquiries, inquiry_id id, uint64_t *datagram);
/* Ends one whose deadline is over; false when there is none. */
bool inquiries_expired(struct inquiries *inquiries, struct monotime now, uint64_t *datagram);
struct monotime inquiries_deadline(const struct inquiries *inquiries);
/* The streams are gone. */
void inquiries_ask_all_again(struct inquiries *inquiries);

/* Made and not ended. */
uint32_t inquiries_open(const struct inquiries *inquiries);

#endif
