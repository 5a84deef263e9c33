/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings that subscribers ask for themselves: RFC 6887, RFC 6888 REQ-9. */
#include <criterion/criterion.h>
#include <arpa/inet.h>
#include <string.h>

#include "tablesvc/explicit.h"
#include "tests/support/table_rig.h"

static struct rig rig;
static uint32_t dp;
static struct explicit_answer answer;

static void start(void)
{
	rig_config(&rig);
	rig.config.pcp.capacity = 16;
	rig.config.pcp.per_subscriber = 4;
	rig.config.pcp.lifetime_min_ms = 120000;
	rig.config.pcp.lifetime_max_ms = 86400000;
	rig_start(&rig);
	dp = rig_attach(&rig, 1);
}

static void stop(void)
{
	rig_stop(&rig);
}

TestSuite(explicit, .init = start, .fini = stop);

static struct pcp_request map_of(unsigned port, uint32_t lifetime_s)
{
	struct pcp_request r = {.opcode = PCP_MAP,
				.protocol = NAT_UDP,
				.internal_port = htons((uint16_t)port),
				.lifetime_s = lifetime_s,
				.nonce = "nonce-of-12"};
	return r;
}

static struct pcp_request peer_of(unsigned port, const char *remote, unsigned remote_port)
{
	struct pcp_request r = map_of(port, 3600);
	r.opcode = PCP_PEER;
	r.remote = (struct nat_endpoint){.address = ip(remote), .port = htons((uint16_t)remote_port)};
	return r;
}

static unsigned ask_for(const char *host, const struct pcp_request *request)
{
	return explicit_request(rig.table, 1, ip(host), request, rig.now, &answer);
}

static unsigned ask(const struct pcp_request *request)
{
	return ask_for("10.0.0.1", request);
}

/* What a stranger's packet to the endpoint becomes. */
static struct wire_answer from_outside(const char *remote, unsigned port,
				       const struct nat_endpoint *to)
{
	struct nat_tuple t = tuple_of(NAT_UDP, 0, remote, port, "192.0.2.1", 1);
	t.destination = to->address;
	t.destination_port = to->port;
	return rig_in(&rig, dp, t);
}

static bool same(const struct nat_endpoint *a, const struct nat_endpoint *b)
{
	return a->address == b->address && a->port == b->port;
}

Test(explicit, a_mapping_lets_anybody_in_for_its_lifetime)
{
	/* RFC 6888 REQ-9; RFC 6887 section 11.3 */
	struct pcp_request r = map_of(5000, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect_eq(answer.lifetime_s, 600);
	struct nat_endpoint external = answer.external;
	cr_expect_eq(ntohl(external.address) >> 2, ntohl(ip("192.0.2.0")) >> 2);

	rig_pass(&rig, 590 * 1000, 1);
	struct wire_answer in = from_outside("198.51.100.1", 80, &external);
	cr_assert_eq(in.verdict, NAT_TRANSLATE, "whatever the pool's filter");
	cr_expect_eq(in.rewrite.destination, ip("10.0.0.1"));
	cr_expect_eq(in.rewrite.destination_port, htons(5000));

	rig_pass(&rig, 11 * 1000, 1);
	cr_expect_eq(from_outside("198.51.100.2", 80, &external).verdict, NAT_DROP,
		     "the lifetime is over");
	cr_expect_eq(from_outside("198.51.100.1", 80, &external).verdict, NAT_TRANSLATE,
		     "who was let in goes on");
}

Test(explicit, a_mapping_without_traffic_ends_with_its_lifetime)
{
	struct pcp_request r = map_of(5000, 120);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
	rig_pass(&rig, 119 * 1000, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
	rig_pass(&rig, 2 * 1000, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
}

Test(explicit, traffic_and_requests_share_one_mapping)
{
	/* RFC 4787 REQ-1: one external endpoint, whoever came first; RFC 6887 section 11.3 */
	struct nat_tuple t = tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.9", 53);
	struct wire_answer out = rig_out(&rig, dp, t);
	struct nat_endpoint external = {.address = out.rewrite.source,
					.port = out.rewrite.source_port};
	struct pcp_request r = map_of(5000, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect(same(&answer.external, &external));
	struct wire_answer again =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.10", 53));
	cr_expect_eq(again.rewrite.source_port, external.port);
	r.suggested = (struct nat_endpoint){.address = ip("192.0.2.1"), .port = htons(1)};
	r.prefer_failure = true;
	cr_expect_eq(ask(&r), PCP_CANNOT_PROVIDE_EXTERNAL);
}

Test(explicit, renewing_needs_the_nonce)
{
	/* RFC 6887 section 11.3: the simple threat model */
	struct pcp_request r = map_of(5000, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	struct nat_endpoint external = answer.external;
	rig_pass(&rig, 300 * 1000, 1);
	struct pcp_request forged = r;
	forged.nonce[0] ^= 1;
	cr_expect_eq(ask(&forged), PCP_NOT_AUTHORIZED);
	cr_expect(answer.lifetime_s >= 298 && answer.lifetime_s <= 300, "%u", answer.lifetime_s);
	forged.lifetime_s = 0;
	cr_expect_eq(ask(&forged), PCP_NOT_AUTHORIZED, "nor may it be deleted");
	r.lifetime_s = 900;
	cr_expect_eq(ask(&r), PCP_SUCCESS);
	cr_expect(same(&answer.external, &external));
	cr_expect_eq(answer.lifetime_s, 900);
	rig_pass(&rig, 800 * 1000, 1);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
}

Test(explicit, deleting_ends_what_no_traffic_keeps)
{
	struct pcp_request r = map_of(5000, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	struct nat_endpoint external = answer.external;
	r.lifetime_s = 0;
	cr_expect_eq(ask(&r), PCP_SUCCESS);
	cr_expect_eq(answer.lifetime_s, 0);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	cr_expect_eq(ask(&r), PCP_SUCCESS, "again, as when the answer was lost");
	cr_expect_eq(from_outside("198.51.100.1", 80, &external).verdict, NAT_DROP);

	/* RFC 6887 section 15: traffic's own lifetime is not shortened, by whomever it was asked. */
	rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5001, "198.51.100.9", 9));
	r = map_of(5001, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	r.lifetime_s = 0;
	cr_expect_eq(ask(&r), PCP_SUCCESS);
	cr_expect(answer.lifetime_s >= 299 && answer.lifetime_s <= 300, "%u", answer.lifetime_s);
	cr_expect_eq(rig_counters(&rig).mappings, 1);
	cr_expect_eq(ask(&r), PCP_NOT_AUTHORIZED, "what is left was made by traffic");
}

Test(explicit, lifetimes_are_bounded)
{
	/* RFC 6887 section 15 */
	struct pcp_request r = map_of(5000, 1);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect_eq(answer.lifetime_s, 120);
	r.lifetime_s = UINT32_MAX;
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect_eq(answer.lifetime_s, 86400);
}

Test(explicit, a_suggestion_is_honoured_when_it_can_be)
{
	/* RFC 6887 section 11.3: so that a client gets back what a restart lost. */
	struct pcp_request r = map_of(5000, 600);
	r.suggested = (struct nat_endpoint){.address = ip("192.0.2.2"), .port = htons(40000)};
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect(same(&answer.external, &r.suggested));

	/* Somebody else's block, another address than the paired one, PCP's own ports. */
	struct pcp_request other = r;
	other.suggested.port = htons(40001);
	cr_assert_eq(ask_for("10.0.0.2", &other), PCP_SUCCESS);
	cr_expect_not(same(&answer.external, &other.suggested));
	other.internal_port = htons(5002);
	other.prefer_failure = true;
	cr_expect_eq(ask_for("10.0.0.2", &other), PCP_CANNOT_PROVIDE_EXTERNAL);
	other = r;
	other.internal_port = htons(5003);
	other.suggested.address = ip("192.0.2.1");
	other.prefer_failure = true;
	cr_expect_eq(ask(&other), PCP_CANNOT_PROVIDE_EXTERNAL, "RFC 4787 REQ-2: paired");
	other.suggested = (struct nat_endpoint){.address = ip("192.0.2.3"), .port = htons(5351)};
	cr_expect_eq(ask_for("10.0.0.3", &other), PCP_CANNOT_PROVIDE_EXTERNAL);
	cr_expect_eq(rig_counters(&rig).mappings, 2);
}

Test(explicit, quotas_hold)
{
	/* RFC 6888 REQ-4: for what is asked for, too; others are not affected */
	for (unsigned i = 0; i < 4; i++) {
		struct pcp_request r = map_of(5000 + i, 600);
		cr_assert_eq(ask(&r), PCP_SUCCESS);
	}
	struct pcp_request r = map_of(6000, 600);
	cr_expect_eq(ask(&r), PCP_USER_EX_QUOTA);
	cr_expect_eq(rig_counters(&rig).mappings, 4, "nothing is left of what was refused");
	cr_expect_eq(ask_for("10.0.0.2", &r), PCP_SUCCESS);
	r = map_of(5000, 0);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	r = map_of(6000, 600);
	cr_expect_eq(ask(&r), PCP_SUCCESS);
}

Test(explicit, the_limit_of_ports_is_a_quota)
{
	/* RFC 6888 REQ-4; RFC 6887 section 11.3: the client learns whose limit it is */
	rig_stop(&rig);
	rig.seed = 1;
	rig.config.limits.ports = 2;
	rig_start(&rig);
	for (unsigned i = 0; i < 2; i++) {
		struct pcp_request r = map_of(5000 + i, 600);
		cr_assert_eq(ask(&r), PCP_SUCCESS);
	}
	struct pcp_request r = map_of(6000, 600);
	cr_expect_eq(ask(&r), PCP_USER_EX_QUOTA);
	cr_expect_eq(ask_for("10.0.0.2", &r), PCP_SUCCESS);
}

Test(explicit, refuses_what_it_cannot_do)
{
	/* RFC 6887 section 11.3 */
	struct pcp_request r = map_of(0, 600);
	cr_expect_eq(ask(&r), PCP_UNSUPP_PROTOCOL, "all ports");
	r = map_of(5000, 600);
	r.protocol = 132;
	cr_expect_eq(ask(&r), PCP_UNSUPP_PROTOCOL);
	r.protocol = NAT_UDP;
	cr_expect_eq(ask_for("172.16.0.1", &r), PCP_NOT_AUTHORIZED, "in no realm");
	cr_expect_eq(rig_counters(&rig).mappings, 0);
}

Test(explicit, tells_statics_and_changes_none)
{
	struct config_static forward = {
	    .realm = 1,
	    .protocol = NAT_UDP,
	    .external = {.address = ip("192.0.2.1"), .port = htons(443)},
	    .internal = {.address = ip("10.0.0.1"), .port = htons(8443)},
	};
	cr_assert_eq(table_static_add(rig.table, &forward, rig.now, NULL), 0);
	struct pcp_request r = map_of(8443, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect(same(&answer.external, &forward.external));
	cr_expect_eq(answer.lifetime_s, UINT32_MAX);
	r.lifetime_s = 0;
	cr_expect_eq(ask(&r), PCP_NOT_AUTHORIZED);
}

Test(explicit, losing_one_starts_the_epoch_again)
{
	/* RFC 6887 section 8.5: so that its owner asks again at once */
	struct pcp_request r = map_of(8443, 600);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	struct nat_endpoint external = answer.external;
	rig_pass(&rig, 100 * 1000, 1);
	cr_expect_eq(explicit_epoch_s(rig.table, rig.now), 100);
	struct table_filter filter = {.external = external};
	uint64_t mappings, sessions;
	cr_assert_eq(table_delete(rig.table, &filter, rig.now, &mappings, &sessions), 0);
	cr_expect_eq(mappings, 1);
	cr_expect_eq(explicit_epoch_s(rig.table, rig.now), 0);
	cr_expect_eq(ask(&r), PCP_SUCCESS);
}

Test(explicit, peer_makes_the_session_of_a_first_packet)
{
	/* RFC 6887 section 12.3, and RFC 4787 REQ-1 */
	struct pcp_request r = peer_of(5000, "198.51.100.9", 9);
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	struct nat_endpoint external = answer.external;
	cr_expect(answer.lifetime_s >= 299 && answer.lifetime_s <= 300, "%u", answer.lifetime_s);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
	cr_expect_eq(from_outside("198.51.100.9", 9, &external).verdict, NAT_TRANSLATE);
	cr_expect_eq(from_outside("198.51.100.8", 9, &external).verdict, NAT_DROP,
		     "it opens the filter for its peer alone");
	struct wire_answer out =
	    rig_out(&rig, dp, tuple_of(NAT_UDP, 1, "10.0.0.1", 5000, "198.51.100.9", 9));
	cr_expect_eq(out.rewrite.source_port, external.port);
	rig_pass(&rig, 200 * 1000, 0);
	struct pcp_request forged = r;
	forged.nonce[11] ^= 1;
	cr_expect_eq(ask(&forged), PCP_NOT_AUTHORIZED);
	r.lifetime_s = 0;
	cr_expect_eq(ask(&r), PCP_SUCCESS, "how long is it going to live?");
	cr_expect_leq(answer.lifetime_s, 100);
	r.lifetime_s = 600;
	cr_expect_eq(ask(&r), PCP_SUCCESS);
	cr_expect_geq(answer.lifetime_s, 299);
	cr_expect_eq(rig_counters(&rig).sessions, 1);
}

Test(explicit, peer_insists_on_its_suggestion)
{
	/* RFC 6887 section 12.3, and the parity that RFC 7857 section 8 wants to be asked for */
	struct pcp_request r = peer_of(5000, "198.51.100.9", 9);
	r.suggested = (struct nat_endpoint){.address = ip("203.0.113.1"), .port = htons(40000)};
	cr_expect_eq(ask(&r), PCP_CANNOT_PROVIDE_EXTERNAL);
	cr_expect_eq(rig_counters(&rig).mappings, 0);
	r.suggested.address = ip("192.0.2.2");
	cr_assert_eq(ask(&r), PCP_SUCCESS);
	cr_expect(same(&answer.external, &r.suggested));
}
