/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include "dataplane/prefixes.h"

static void add(struct wire_config *config, const char *address, uint8_t length, uint8_t kind,
		uint8_t realm)
{
	config->prefixes[config->n_prefixes++] = (struct wire_prefix){
	    .address = inet_addr(address), .length = length, .kind = kind, .realm = realm};
}

static struct prefixes *example(void)
{
	struct wire_config *config = calloc(1, sizeof *config);
	struct prefixes *prefixes = malloc(sizeof *prefixes);

	add(config, "10.0.0.0", 8, WIRE_PREFIX_INSIDE, 1);
	add(config, "10.7.0.0", 16, WIRE_PREFIX_INSIDE, 2);
	add(config, "10.7.7.7", 32, WIRE_PREFIX_INSIDE, 3);
	add(config, "10.0.0.0", 8, WIRE_PREFIX_INSIDE, 4);  /* realms may overlap */
	add(config, "192.0.2.99", 24, WIRE_PREFIX_POOL, 0); /* host bits do not matter */
	add(config, "0.0.0.0", 0, WIRE_PREFIX_BYPASS, 0);
	add(config, "1.2.3.4", 33, WIRE_PREFIX_POOL, 0); /* no such length */
	add(config, "1.2.3.4", 32, 9, 0);		 /* no such kind */
	prefixes_init(prefixes, config);
	free(config);
	return prefixes;
}

Test(prefixes, longest_match_wins)
{
	struct prefixes *p = example();

	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("10.1.2.3")), 1);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("10.7.2.3")), 2);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("10.7.7.7")), 3);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("11.0.0.0")), PREFIXES_NONE);
	free(p);
}

Test(prefixes, kinds_are_apart)
{
	struct prefixes *p = example();

	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_POOL, inet_addr("192.0.2.1")), 0);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_POOL, inet_addr("192.0.3.0")), PREFIXES_NONE);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_POOL, inet_addr("10.0.0.1")), PREFIXES_NONE);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_POOL, inet_addr("1.2.3.4")), PREFIXES_NONE);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_BYPASS, inet_addr("255.1.1.1")), 0);
	free(p);
}

Test(prefixes, an_inside_address_may_belong_to_several_realms)
{
	struct prefixes *p = example();

	cr_expect(prefixes_inside(p, 1, inet_addr("10.7.7.7")));
	cr_expect(prefixes_inside(p, 4, inet_addr("10.7.7.7")));
	cr_expect(prefixes_inside(p, 2, inet_addr("10.7.7.7")));
	cr_expect_not(prefixes_inside(p, 2, inet_addr("10.8.7.7")));
	cr_expect_not(prefixes_inside(p, 5, inet_addr("10.7.7.7")));
	free(p);
}

Test(prefixes, as_many_as_the_wire_carries)
{
	struct wire_config *config = calloc(1, sizeof *config);
	struct prefixes *p = malloc(sizeof *p);

	for (unsigned i = 0; i < WIRE_PREFIXES_MAX; i++) {
		char address[32];
		snprintf(address, sizeof address, "10.%u.%u.0", i / 256, i % 256);
		add(config, address, 24, WIRE_PREFIX_INSIDE, (uint8_t)(1 + i % 255));
	}
	prefixes_init(p, config);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("10.3.255.9")),
		     1 + 1023 % 255);
	cr_expect_eq(prefixes_match(p, WIRE_PREFIX_INSIDE, inet_addr("10.4.0.9")), PREFIXES_NONE);
	free(p);
	free(config);
}
