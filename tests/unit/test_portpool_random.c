/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RFC 6056, RFC 6888 REQ-15: who saw ports does not know the next one. The numbers are the kernel's
 * (random.c), or a seed's here, so that these tests always see the same ones; what is tested is
 * that nothing of their quality is lost on the way to a port. Each measure is shown to find a bad
 * source.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <arpa/inet.h>
#include <math.h>
#include <string.h>
#include "tests/support/portpool_bed.h"

enum { DRAWS = 10000, BINS = 63, PAIRS = 16 };

struct measure {
	/* Chi-square of the bins, in standard deviations from its mean; below: too even. */
	double uniform;
	double pairs; /* the same of consecutive draws, PAIRS by PAIRS */
	double correlation;
};

static double deviations(double chi_square, double freedom)
{
	return (chi_square - freedom) / sqrt(2 * freedom);
}

/* Of DRAWS offsets below size. */
static struct measure measure_of(const unsigned *offset, unsigned size)
{
	static double bins[BINS], pairs[PAIRS][PAIRS];
	double chi = 0, sum = 0, square = 0, product = 0;

	memset(bins, 0, sizeof bins);
	memset(pairs, 0, sizeof pairs);
	for (unsigned i = 0; i < DRAWS; i++) {
		double x = (double)offset[i] / size;
		bins[(unsigned)(x * BINS)]++;
		sum += x;
		square += x * x;
		if (i == 0)
			continue;
		double before = (double)offset[i - 1] / size;
		pairs[(unsigned)(before * PAIRS)][(unsigned)(x * PAIRS)]++;
		product += before * x;
	}
	struct measure m;
	double expected = (double)DRAWS / BINS, mean = sum / DRAWS;
	for (unsigned i = 0; i < BINS; i++)
		chi += (bins[i] - expected) * (bins[i] - expected) / expected;
	m.uniform = deviations(chi, BINS - 1);
	expected = (double)(DRAWS - 1) / (PAIRS * PAIRS);
	chi = 0;
	for (unsigned i = 0; i < PAIRS * PAIRS; i++)
		chi += (pairs[i / PAIRS][i % PAIRS] - expected) *
		       (pairs[i / PAIRS][i % PAIRS] - expected) / expected;
	m.pairs = deviations(chi, PAIRS * PAIRS - 1);
	m.correlation = (product / (DRAWS - 1) - mean * mean) / (square / DRAWS - mean * mean);
	return m;
}

static bool good(const struct measure *m)
{
	return fabs(m->uniform) < 2.5 && fabs(m->pairs) < 2.5 && fabs(m->correlation) < 0.04;
}

/* What a bad generator of ports does: the next one, or a linear congruence of few bits. */
static uint64_t next_port(void *context)
{
	uint64_t *state = context;
	return (*state += UINT64_C(0x0010000000100000));
}
static uint64_t few_bits(void *context)
{
	uint64_t *state = context;
	*state = (*state * 1103515245 + 12345) & 0x7fff;
	return *state << 49 | *state << 17;
}

enum generator { SEEDED, NEXT_PORT, FEW_BITS };
struct source {
	char name[24];
	bool good, deterministic;
	enum generator generator;
};

ParameterizedTestParameters(portpool_random, ports_are_uniform_and_independent)
{
	static struct source rows[] = {
	    {"seeded", true, false, SEEDED},
	    {"seeded, fixed range", true, true, SEEDED},
	    {"the next port", false, false, NEXT_PORT},
	    {"few bits", false, false, FEW_BITS},
	    {"few bits, fixed range", false, true, FEW_BITS},
	};
	return cr_make_param_array(struct source, rows, sizeof rows / sizeof rows[0]);
}

/* RFC 6056, RFC 6888 REQ-15, RFC 7857 section 9: 10,000 flows of one subscriber, one at a time. */
ParameterizedTest(struct source *row, portpool_random, ports_are_uniform_and_independent)
{
	static unsigned offset[DRAWS];
	struct portpool_share share = {.id = 1, .realm = 1, .subscriber = htonl(0x0a000001)};
	struct config_prefix inside = {htonl(0x0a000000), 28};
	struct config_realm realm = {.id = 1, .prefixes = &inside, .n_prefixes = 1};
	struct bed bed;
	unsigned lowest = 65535, size = 4096;

	bed_init(&bed);
	bed_pool(&bed, "p", row->deterministic ? 1024 : 4096, 65535,
		 row->deterministic ? 64 : 4096);
	bed_prefix(&bed, 0, "203.0.113.1", 32);
	bed.pools[0].parity = false;
	if (row->deterministic) {
		bed.pools[0].mode = CONFIG_DETERMINISTIC;
		bed.config.realms = &realm;
		bed.config.n_realms = 1;
		size = 63 * 64;
	}
	if (row->generator != SEEDED)
		bed.random = (struct random_source){.next = row->generator == NEXT_PORT ? next_port
											: few_bits,
						    .context = &bed.seed};
	bed_start(&bed);
	uint64_t keep = must_take(&bed, &share, NAT_TCP); /* its block stays */
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t place = must_take(&bed, &share, NAT_UDP);
		offset[i] = port_of(&bed, place);
		lowest = offset[i] < lowest ? offset[i] : lowest;
		give(&bed, &share, place);
	}
	lowest = row->deterministic ? 1024 + 63 * 64 : lowest / 4096 * 4096;
	for (unsigned i = 0; i < DRAWS; i++) {
		offset[i] -= lowest;
		cr_assert_lt(offset[i], size);
	}
	struct measure m = measure_of(offset, size);
	cr_expect_eq(good(&m), row->good, "%s: uniform %.2f, pairs %.2f, correlation %.4f",
		     row->name, m.uniform, m.pairs, m.correlation);
	give(&bed, &share, keep);
	portpool_free(bed.pool);
}

/* The bound is no power of two: without a bias that 10,000 draws show, and every value is drawn. */
Test(portpool_random, below_has_no_favourites)
{
	static unsigned offset[DRAWS];
	uint64_t seed = 7;
	struct random_source random = random_seeded(&seed);

	for (unsigned i = 0; i < DRAWS; i++)
		offset[i] = random_below(&random, 252);
	struct measure m = measure_of(offset, 252);
	cr_expect(good(&m), "uniform %.2f, pairs %.2f, correlation %.4f", m.uniform, m.pairs,
		  m.correlation);
	cr_expect_eq(random_below(&random, 1), 0);
}

/* The programs' source: no number comes twice, over several fillings of its buffer. */
Test(portpool_random, the_kernels_numbers_do_not_repeat)
{
	enum { N = 2048 };
	static uint64_t seen[N];
	struct random_source random = random_system();

	for (unsigned i = 0; i < N; i++) {
		seen[i] = random.next(random.context);
		for (unsigned k = 0; k < i; k++)
			cr_assert_neq(seen[i], seen[k]);
	}
}
