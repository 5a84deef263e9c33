/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose an external endpoint is: what an operator is asked with an address, a port, and now for the
 * time. (The past is in the event log.)
 */
#include "tablesvc/deterministic.h"
#include "tablesvc/table_internal.h"

/* Those that have ports, then those that a whole address is taken for. */
static const uint8_t protocols[] = {NAT_TCP, NAT_UDP,  NAT_ICMP, NAT_GRE,
				    NAT_ESP, NAT_SCTP, NAT_DCCP, NAT_UDPLITE};
enum { WITH_PORTS = 3, PROTOCOLS = sizeof protocols / sizeof protocols[0] };

/* Whose ports they are by the configuration alone, used or not (RFC 7422). */
static bool fixed_row(const struct table *t, const struct nat_endpoint *external,
		      struct table_who_row *row)
{
	const uint64_t place = portpool_place(t->pools, NAT_UDP, external);
	struct deterministic_range range;
	nat_be32 subscriber;
	uint8_t realm;

	if (place == PORTPOOL_NONE ||
	    !portpool_deterministic_subscriber(t->pools, external, &realm, &subscriber) ||
	    !deterministic_range(portpool_deterministic(t->pools, portpool_pool(t->pools, place)),
				 realm, subscriber, &range))
		return false;
	*row = (struct table_who_row){
	    .kind = "fixed",
	    .realm = realm,
	    .realm_name = name_of_realm(t, realm),
	    .pool = name_of_pool(t, place),
	    .redirect = "",
	    .internal.address = subscriber,
	    .external = external->address,
	    .first_port = range.first,
	    .last_port = range.last,
	};
	return true;
}

static struct table_who_row row_of(const struct table *t, const struct mapping *m, const char *kind)
{
	return (struct table_who_row){
	    .kind = kind,
	    .realm = m->realm,
	    .realm_name = name_of_realm(t, m->realm),
	    .pool = name_of_pool(t, m->place),
	    .redirect = name_of_redirect(t, subscriber_at(t, m->subscriber)->redirect),
	    .internal = {.address = m->internal, .port = m->internal_port},
	    .external = mapping_external(t, m).address,
	};
}

/*
 * The mapping that shows whose the block is. A block is its subscriber's as long as it has a
 * dynamic port, so there is one; static mappings in it may be anybody's.
 */
static const struct mapping *of_block(const struct table *t, nat_be32 address, uint16_t first,
				      uint16_t last)
{
	for (unsigned i = 0; i < WITH_PORTS; i++)
		for (uint32_t port = first; port <= last; port++) {
			const struct nat_endpoint external = {.address = address,
							      .port = nat_swap16((uint16_t)port)};
			uint32_t owner = mapping_by_external(t, protocols[i], &external);
			if (owner && !(mapping_at(t, owner)->flags & (MAPPING_STATIC | MAPPING_WHOLE)))
				return mapping_at(t, owner);
		}
	return NULL;
}

/* Static 1:1: it is its host's, used or not. */
static unsigned whole_address(const struct table *t, nat_be32 address, struct table_who_row *row)
{
	const struct config_static *whole = one_to_one_of(t, address);
	const struct nat_endpoint any = {.address = address};

	if (!whole)
		return 0;
	*row = (struct table_who_row){
	    .kind = "static",
	    .realm = whole->realm,
	    .realm_name = name_of_realm(t, whole->realm),
	    .pool = name_of_pool(t, portpool_place(t->pools, NAT_ICMP, &any)),
	    .redirect = "",
	    .internal.address = whole->internal.address,
	    .external = address,
	    .last_port = UINT16_MAX,
	};
	return 1;
}

unsigned table_who(const struct table *t, const struct nat_endpoint *external, uint8_t protocol,
		   struct table_who_row *rows, bool *in_pool)
{
	uint64_t place = portpool_place(t->pools, NAT_UDP, external);
	uint16_t first, last;
	unsigned n = 0;

	*in_pool = portpool_has_address(t->pools, external->address);
	if (fixed_row(t, external, &rows[n]))
		n++;
	else if (place != PORTPOOL_NONE && portpool_range(t->pools, place, &first, &last)) {
		const struct mapping *m = of_block(t, external->address, first, last);
		if (m) {
			rows[n] = row_of(t, m, "block");
			rows[n].internal.port = 0;
			if (rows[n].redirect[0])
				rows[n].internal.address = 0;
			rows[n].first_port = first;
			rows[n++].last_port = last;
		}
	}
	for (unsigned i = 0; i < PROTOCOLS; i++) {
		if (protocol && protocol != protocols[i])
			continue;
		uint32_t owner = mapping_by_external(t, protocols[i], external);
		if (!owner)
			continue;
		const struct mapping *m = mapping_at(t, owner);
		rows[n] = row_of(t, m, m->flags & MAPPING_STATIC ? "static" : "mapping");
		rows[n].protocol = protocols[i];
		rows[n].sessions = m->n_live;
		rows[n].first_port = rows[n].last_port = nat_swap16(external->port);
		if (i >= WITH_PORTS) {
			rows[n].kind = "address";
			rows[n].first_port = 0;
			rows[n].last_port = UINT16_MAX;
		}
		n++;
	}
	n += whole_address(t, external->address, &rows[n]);
	return n;
}
