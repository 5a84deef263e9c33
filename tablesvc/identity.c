/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside hosts that keep their own addresses outside (identity). Dataplanes pass their packets by
 * themselves; the table hears of them when they speak to an external address of ours, or a host of
 * another realm to them: for other realms they are outside, behind their own realm.
 */
#include "tablesvc/table_internal.h"

#include <arpa/inet.h>
#include <string.h>

uint8_t identity_realm(const struct config *config, nat_be32 address)
{
	for (unsigned i = 0; i < config->n_realms; i++) {
		const struct config_realm *r = &config->realms[i];
		for (unsigned k = 0; k < r->n_identity; k++) {
			uint8_t length = r->identity[k].length;
			uint32_t mask = length ? htonl(UINT32_MAX << (32 - length)) : 0;
			if (((address ^ r->identity[k].address) & mask) == 0)
				return r->id;
		}
	}
	return 0;
}

bool identities_differ(const struct config *a, const struct config *b)
{
	bool differ = a->n_realms != b->n_realms;

	for (unsigned i = 0; i < a->n_realms && !differ; i++) {
		const struct config_realm *p = &a->realms[i], *q = &b->realms[i];
		differ = p->id != q->id || p->n_identity != q->n_identity ||
			 (p->n_identity &&
			  memcmp(p->identity, q->identity, p->n_identity * sizeof *p->identity));
	}
	return differ;
}

/*
 * A host that is translated no more must not go on so where a dataplane holds its flows (U4); where
 * a remote host is behind another realm now, its answers come from there.
 */
void identity_reload(struct table *t, const struct config *old)
{
	for (uint32_t i = 1; i < t->mappings.fresh; i++) {
		const struct mapping *m = mapping_at(t, i);
		if (m->used && !(m->flags & (MAPPING_RETIRED | MAPPING_STATIC)) &&
		    identity_realm(&t->config, m->internal) == m->realm)
			mapping_retire(t, i);
	}
	for (uint32_t i = 1; i < t->sessions.fresh; i++) {
		const struct session *s = session_at(t, i);
		if (s->state == SESSION_LIVE &&
		    identity_realm(&t->config, s->remote) != identity_realm(old, s->remote))
			session_end(t, i, NAT_REASON_POLICY);
	}
}
