/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/packet_text.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 256, NOT_GIVEN = -1 };

enum sum_mode { SUM_RIGHT, SUM_BAD, SUM_ZERO, SUM_FIXED };

/* Everything that one line can say. */
struct description {
	int protocol;
	struct nat_endpoint source, destination;
	long ttl, tos, ipid, opts, version, iplen, flags, seq, ack, win, urg, tcpopts, udplen, len;
	long zeros, cov, type, code, id, icmp_seq, rest, cut, pad, gso, frag_begin, frag_end;
	unsigned fixed_sum;
	enum sum_mode sum;
	bool df, mf, bad_ip_sum, partial;
	char data[WORD_MAX];
	uint32_t n_quote, n_tail;
	uint8_t *quote; /* one ICMP error quotes one packet */
	uint8_t tail[WORD_MAX];
	uint32_t n_iopt, n_topt; /* options, as bytes; otherwise they are NOPs */
	uint8_t iopt[WORD_MAX], topt[WORD_MAX];
};

struct parser {
	const char *at;
	char *error;
	unsigned error_size;
	unsigned depth;
};

__attribute__((format(printf, 2, 3))) static bool fail(struct parser *p, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(p->error, p->error_size, format, arguments);
	va_end(arguments);
	return false;
}

uint16_t reference_checksum(const uint8_t *bytes, uint32_t n, uint32_t start)
{
	uint64_t sum = start;

	for (uint32_t i = 0; i < n; i++)
		sum += i % 2 ? bytes[i] : (uint64_t)bytes[i] << 8;
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)(0xffff - sum);
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, unsigned long v)
{
	put16(p, (unsigned)(v >> 16) & 0xffff);
	put16(p + 2, (unsigned)v & 0xffff);
}

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t pseudo_sum(const uint8_t *ip, unsigned protocol, uint32_t length)
{
	return get16(ip + 12) + get16(ip + 14) + get16(ip + 16) + get16(ip + 18) + protocol +
	       length;
}

/* The bytes that the transport's sum covers: all, but RFC 3828 section 3.1, RFC 4340 section 9.2. */
static uint32_t covered_bytes(unsigned protocol, const uint8_t *t, uint32_t n)
{
	uint32_t covered = n;

	if (protocol == NAT_UDPLITE)
		covered = get16(t + 4);
	if (protocol == NAT_DCCP && t[5] & 15)
		covered = t[4] * 4u + ((t[5] & 15u) - 1) * 4u;
	return covered == 0 || covered > n ? n : covered;
}

bool packet_checksums_right(const uint8_t *ip, uint32_t length)
{
	uint32_t header = (ip[0] & 15u) * 4, n = length - header;

	if (reference_checksum(ip, header, 0) != 0)
		return false;
	switch (ip[9]) {
	case NAT_ICMP:
		return reference_checksum(ip + header, n, 0) == 0;
	case NAT_UDP:
		if (get16(ip + header + 6) == 0)
			return true;
		/* fall through */
	case NAT_TCP:
	case NAT_DCCP:
	case NAT_UDPLITE:
		return reference_checksum(ip + header, covered_bytes(ip[9], ip + header, n),
					  pseudo_sum(ip, ip[9], n)) == 0;
	}
	return true;
}

/* ---- reading the line ---- */

static void skip_spaces(const char **at)
{
	while (**at == ' ' || **at == '\t')
		(*at)++;
}

static bool at_end(const char *at)
{
	return *at == 0 || *at == '\n' || *at == '#';
}

static bool next_word(const char **at, char word[WORD_MAX])
{
	unsigned n = 0;

	skip_spaces(at);
	while (!at_end(*at) && **at != ' ' && **at != '\t' && n + 1 < WORD_MAX)
		word[n++] = *(*at)++;
	word[n] = 0;
	return n > 0;
}

bool endpoint_parse(const char **text, struct nat_endpoint *out)
{
	char address[20];
	unsigned n = 0;

	skip_spaces(text);
	while ((**text >= '0' && **text <= '9') || **text == '.') {
		if (n + 1 >= sizeof address)
			return false;
		address[n++] = *(*text)++;
	}
	address[n] = 0;
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, address, &out->address) != 1)
		return false;
	if (**text == ':') {
		char *end;
		out->port = htons((uint16_t)strtoul(*text + 1, &end, 10));
		*text = end;
	}
	return true;
}

static bool parse_tcp_flags(const char *text, long *out)
{
	static const char names[] = "FSRPAUEC";

	*out = 0;
	for (; *text; text++) {
		const char *found = strchr(names, *text);
		if (!found)
			return false;
		*out |= 1 << (found - names);
	}
	return true;
}

static uint32_t parse_hex(const char *value, uint8_t *out)
{
	uint32_t n = 0;

	for (; value[0] && value[1]; value += 2) {
		char hex[3] = {value[0], value[1], 0};
		out[n++] = (uint8_t)strtoul(hex, NULL, 16);
	}
	return n;
}

static bool parse_field(struct parser *p, struct description *d, char *word)
{
	const struct {
		const char *name;
		long *value;
	} numbers[] = {
	    {"ttl", &d->ttl},	      {"tos", &d->tos},	      {"ipid", &d->ipid},
	    {"opts", &d->opts},	      {"seq", &d->seq},	      {"ack", &d->ack},
	    {"win", &d->win},	      {"urg", &d->urg},	      {"len", &d->len},
	    {"type", &d->type},	      {"code", &d->code},     {"id", &d->id},
	    {"rest", &d->rest},	      {"cut", &d->cut},	      {"pad", &d->pad},
	    {"gso", &d->gso},	      {"iplen", &d->iplen},   {"version", &d->version},
	    {"tcpopts", &d->tcpopts}, {"udplen", &d->udplen}, {"zeros", &d->zeros},
	    {"cov", &d->cov},
	};
	char *value = strchr(word, '=');

	if (strcmp(word, "df") == 0)
		return d->df = true;
	if (strcmp(word, "mf") == 0)
		return d->mf = true;
	if (strcmp(word, "partial") == 0)
		return d->partial = true;
	if (!value)
		return fail(p, "'%s' is no field", word);
	*value++ = 0;
	for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		char *end;
		if (strcmp(word, numbers[i].name) != 0)
			continue;
		*numbers[i].value = strtol(value, &end, 0);
		return *end == 0 || fail(p, "%s=%s is no number", word, value);
	}
	if (strcmp(word, "proto") == 0) {
		d->protocol = atoi(value);
		return true;
	}
	if (strcmp(word, "flags") == 0)
		return parse_tcp_flags(value, &d->flags) || fail(p, "flags=%s: SFRPAUEC", value);
	if (strcmp(word, "frag") == 0)
		return sscanf(value, "%ld-%ld", &d->frag_begin, &d->frag_end) == 2 ||
		       fail(p, "frag=BEGIN-END");
	if (strcmp(word, "ipsum") == 0)
		return d->bad_ip_sum = true;
	if (strcmp(word, "data") == 0)
		return snprintf(d->data, sizeof d->data, "%s", value) >= 0;
	if (strcmp(word, "sum") == 0) {
		d->sum = strcmp(value, "bad") == 0
			     ? SUM_BAD
			     : (strcmp(value, "0") == 0 ? SUM_ZERO : SUM_FIXED);
		d->fixed_sum = (unsigned)strtoul(value, NULL, 16);
		return true;
	}
	if (strcmp(word, "tail") == 0) {
		d->n_tail = parse_hex(value, d->tail);
		return true;
	}
	if (strcmp(word, "iopt") == 0)
		return d->opts = d->n_iopt = parse_hex(value, d->iopt), true;
	if (strcmp(word, "topt") == 0)
		return d->tcpopts = d->n_topt = parse_hex(value, d->topt), true;
	return fail(p, "'%s' is no field", word);
}

/* ---- writing the packet ---- */

static unsigned spoil(unsigned sum)
{
	sum += 0x1111; /* in one's complement, so that it stays the same error under RFC 1624 */
	return (sum & 0xffff) + (sum >> 16);
}

static void seal_transport(const struct description *d, const uint8_t *ip, uint8_t *transport,
			   uint32_t n)
{
	static const struct {
		int protocol;
		unsigned offset;
		bool pseudo;
	} kinds[] = {{NAT_ICMP, 2, false},
		     {NAT_TCP, 16, true},
		     {NAT_UDP, 6, true},
		     {NAT_UDPLITE, 6, true},
		     {NAT_DCCP, 6, true}};

	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		uint8_t *field = transport + kinds[i].offset;
		if (kinds[i].protocol != d->protocol)
			continue;
		put16(field, 0);
		uint32_t pseudo = kinds[i].pseudo ? pseudo_sum(ip, (unsigned)d->protocol, n) : 0;
		unsigned sum = reference_checksum(
		    transport, covered_bytes((unsigned)d->protocol, transport, n), pseudo);
		if (d->partial) /* not complemented: what the device adds the payload to */
			sum = 0xffffu - reference_checksum(NULL, 0, pseudo);
		else if ((d->protocol == NAT_UDP || d->protocol == NAT_UDPLITE) && sum == 0)
			sum = 0xffff;
		put16(field, d->sum == SUM_BAD	   ? spoil(sum)
			     : d->sum == SUM_ZERO  ? 0
			     : d->sum == SUM_FIXED ? d->fixed_sum
						   : sum);
	}
}

static uint32_t write_transport(const struct description *d, uint8_t *t)
{
	uint32_t at = 0;

	switch (d->protocol) {
	case NAT_TCP:
		memcpy(t, &d->source.port, 2);
		memcpy(t + 2, &d->destination.port, 2);
		put32(t + 4, (unsigned long)d->seq);
		put32(t + 8, (unsigned long)d->ack);
		t[12] = (uint8_t)((20 + d->tcpopts) / 4 << 4);
		t[13] = (uint8_t)d->flags;
		put16(t + 14, (unsigned)d->win);
		put16(t + 18, (unsigned)d->urg);
		memset(t + 20, 1, (size_t)d->tcpopts);
		memcpy(t + 20, d->topt, d->n_topt);
		at = 20 + (uint32_t)d->tcpopts;
		break;
	case NAT_UDP:
		memcpy(t, &d->source.port, 2);
		memcpy(t + 2, &d->destination.port, 2);
		at = 8;
		break;
	case NAT_UDPLITE:
		memcpy(t, &d->source.port, 2);
		memcpy(t + 2, &d->destination.port, 2);
		put16(t + 4, (unsigned)d->cov);
		at = 8;
		break;
	case NAT_DCCP: /* a Data packet with a short sequence number */
		memcpy(t, &d->source.port, 2);
		memcpy(t + 2, &d->destination.port, 2);
		t[4] = 3;
		t[5] = (uint8_t)d->cov;
		t[8] = 2 << 1;
		put16(t + 10, (unsigned)d->seq);
		at = 12;
		break;
	case NAT_SCTP: /* its CRC32c is not ours to know: any four bytes */
		memcpy(t, &d->source.port, 2);
		memcpy(t + 2, &d->destination.port, 2);
		put32(t + 4, 0x7a615f3d);
		put32(t + 8, 0xc0ffee17);
		at = 12;
		break;
	case NAT_ICMP:
		t[0] = (uint8_t)d->type;
		t[1] = (uint8_t)d->code;
		put32(t + 4, d->rest != NOT_GIVEN
				 ? (unsigned long)d->rest
				 : (unsigned long)d->id << 16 | (unsigned long)d->seq);
		at = 8;
		break;
	}
	if (d->n_quote)
		memcpy(t + at, d->quote, d->n_quote);
	at += d->n_quote;
	memcpy(t + at, d->data, strlen(d->data));
	at += (uint32_t)strlen(d->data);
	for (long i = 0; i < d->len; i++)
		t[at++] = (uint8_t)(i * 7 + (i >> 8));
	memset(t + at, 0, (size_t)d->zeros);
	at += (uint32_t)d->zeros;
	memcpy(t + at, d->tail, d->n_tail);
	at += d->n_tail;
	if (d->protocol == NAT_UDP)
		put16(t + 4, d->udplen != NOT_GIVEN ? (unsigned)d->udplen : at);
	return at;
}

static bool write_packet(struct parser *p, const struct description *d, struct test_packet *out)
{
	uint32_t header = 20 + (uint32_t)d->opts;
	uint8_t *ip = out->bytes;
	bool more = d->mf;
	unsigned offset = 0;

	if (d->len + d->zeros > 65535 || d->opts > 40 || d->opts % 4 || d->tcpopts > 40 || d->tcpopts % 4)
		return fail(p, "len, opts or tcpopts out of range");
	memset(ip, 0, header + 60); /* and the transport header's unnamed fields */
	ip[0] = (uint8_t)(d->version << 4 | header / 4);
	ip[1] = (uint8_t)d->tos;
	ip[8] = (uint8_t)d->ttl;
	ip[9] = (uint8_t)d->protocol;
	memcpy(ip + 12, &d->source.address, 4);
	memcpy(ip + 16, &d->destination.address, 4);
	memset(ip + 20, 1, (size_t)d->opts); /* NOP */
	memcpy(ip + 20, d->iopt, d->n_iopt);

	uint32_t n = write_transport(d, ip + header);
	seal_transport(d, ip, ip + header, n);
	if (d->frag_end != NOT_GIVEN) {
		if (d->frag_begin % 8 || d->frag_begin >= d->frag_end || d->frag_end > (long)n)
			return fail(p, "frag=%ld-%ld of %u bytes", d->frag_begin, d->frag_end, n);
		more = more || d->frag_end < (long)n;
		offset = (unsigned)d->frag_begin / 8;
		n = (uint32_t)(d->frag_end - d->frag_begin);
		memmove(ip + header, ip + header + d->frag_begin, n);
	}
	out->length = header + n;
	put16(ip + 2, d->iplen != NOT_GIVEN ? (unsigned)d->iplen : out->length);
	put16(ip + 4, (unsigned)d->ipid);
	put16(ip + 6, (d->df ? 0x4000u : 0) | (more ? 0x2000u : 0) | offset);
	unsigned sum = reference_checksum(ip, header, 0);
	put16(ip + 10, d->bad_ip_sum ? spoil(sum) : sum);
	if (d->cut != NOT_GIVEN && (uint32_t)d->cut < out->length)
		out->length = (uint32_t)d->cut;
	memset(ip + out->length, 0xee, (size_t)d->pad);
	out->length += (uint32_t)d->pad;
	out->partial_checksum = d->partial;
	out->gso_size = (uint16_t)d->gso;
	return true;
}

/* ---- the line ---- */

static bool parse_packet(struct parser *p, struct test_packet *out)
{
	static const struct {
		const char *name;
		int protocol, type;
	} kinds[] = {{"udp", NAT_UDP, 0},   {"tcp", NAT_TCP, 0},   {"icmp", NAT_ICMP, 0},
		     {"ping", NAT_ICMP, 8}, {"pong", NAT_ICMP, 0}, {"ip", 255, 0},
		     {"gre", NAT_GRE, 0},   {"esp", NAT_ESP, 0},   {"sctp", NAT_SCTP, 0},
		     {"dccp", NAT_DCCP, 0}, {"udplite", NAT_UDPLITE, 0}};
	struct description d = {.ttl = 64,
				.version = 4,
				.iplen = NOT_GIVEN,
				.udplen = NOT_GIVEN,
				.rest = NOT_GIVEN,
				.cut = NOT_GIVEN,
				.frag_end = NOT_GIVEN,
				.win = 536};
	struct test_packet *inner = NULL;
	char word[WORD_MAX];
	bool good = false;

	if (!next_word(&p->at, word))
		return fail(p, "no packet");
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strcmp(word, kinds[i].name) == 0) {
			d.protocol = kinds[i].protocol;
			d.type = kinds[i].type;
		}
	if (!d.protocol)
		return fail(p, "'%s' is no kind of packet", word);
	if (!endpoint_parse(&p->at, &d.source) || !next_word(&p->at, word) ||
	    strcmp(word, ">") != 0 || !endpoint_parse(&p->at, &d.destination))
		return fail(p, "SOURCE > DESTINATION expected before '%.20s'", p->at);
	while (next_word(&p->at, word)) {
		if (strcmp(word, "}") == 0) {
			if (p->depth == 0) {
				fail(p, "} without {");
				goto out;
			}
			break;
		}
		if (strcmp(word, "{") == 0) {
			inner = malloc(sizeof *inner);
			p->depth++;
			if (!inner || !parse_packet(p, inner))
				goto out;
			p->depth--;
			d.quote = inner->bytes;
			d.n_quote = inner->length;
			continue;
		}
		if (!parse_field(p, &d, word))
			goto out;
	}
	good = write_packet(p, &d, out);
out:
	free(inner);
	return good;
}

bool packet_build(const char *text, struct test_packet *out, char *error, unsigned error_size)
{
	struct parser p = {.at = text, .error = error, .error_size = error_size};

	return parse_packet(&p, out);
}
