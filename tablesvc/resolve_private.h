/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the resolve files share; nobody else includes this.
 */
#ifndef TABLESVC_RESOLVE_PRIVATE_H
#define TABLESVC_RESOLVE_PRIVATE_H

#include "tablesvc/table_internal.h"

/* resolve_open.c: each 0 when it was refused; *answer says why then */

void resolve_refuse(struct table *t, struct wire_answer *answer, unsigned verdict, unsigned reason);
/* Finds or makes the mapping and session of an outbound tuple. */
uint32_t resolve_open_outbound(struct table *t, const struct dataplane *d,
			       const struct wire_request *r, unsigned pool, uint16_t redirect,
			       uint8_t flags, struct nat_endpoint remote,
			       struct wire_answer *answer);
/* Finds the session of a packet to an external endpoint, or makes it where the filter allows. */
uint32_t resolve_open_inbound(struct table *t, const struct dataplane *d,
			      const struct wire_request *r, uint32_t mapping, struct nat_endpoint remote, uint8_t flags,
			      struct wire_answer *answer);

/* The mapping of the tuple's destination, which has a static 1:1; the caller releases it again. */
uint32_t resolve_open_one_to_one(struct table *t, const struct dataplane *d,
				 const struct wire_request *r, const struct config_static *entry,
				 struct wire_answer *answer);

/* resolve_answer.c */

/* The asker becomes a holder; its packet is activity. */
void resolve_grant(struct table *t, struct dataplane *d, uint32_t session,
		   const struct wire_request *r, unsigned direction);
void resolve_translate(struct table *t, struct wire_answer *answer, uint32_t session, uint32_t peer,
		       unsigned direction, struct nat_endpoint source,
		       struct nat_endpoint destination, uint8_t egress);
/* The realm of the session's remote endpoint. */
uint8_t resolve_egress(const struct table *t, const struct session *s);
/* An outbound tuple of a session that is not hairpinned. */
void resolve_answer_outbound(struct table *t, uint32_t session, struct wire_answer *answer);
/* The answering tuple: to the internal endpoint, from whom it believes to talk to. */
void resolve_answer_inbound(struct table *t, uint32_t session, struct wire_answer *answer);

/* resolve_hairpin.c: a tuple from inside to the mapping's external endpoint */
void resolve_hairpin(struct table *t, struct dataplane *d, const struct wire_request *r,
		     uint32_t mapping2, struct wire_answer *answer);

/* resolve_peek.c */
void resolve_peek(struct table *t, const struct wire_request *r, struct wire_answer *answer);

#endif
