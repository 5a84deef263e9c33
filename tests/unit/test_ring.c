/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/random.h"
#include "dataplane/ring.h"

static uint8_t bytes[RING_PACKET_MAX + 1];

static bool put(struct ring *ring, uint32_t length, uint8_t mark)
{
	struct ring_record record = {.kind = RING_PACKET, .length = length, .ingress = mark};
	memset(bytes, mark, length);
	return ring_put(ring, &record, bytes);
}

Test(ring, gives_back_what_was_put_in_order_over_many_rounds)
{
	uint64_t state = 5;
	struct random_source random = random_seeded(&state);
	struct ring *ring;
	uint32_t lengths[20000];
	unsigned in = 0, out = 0;
	const uint8_t *data;
	cr_assert_eq(ring_new(1, &ring), 0);
	cr_expect(ring_is_empty(ring));
	while (out < 20000) {
		unsigned burst = random_below(&random, 60);
		while (burst-- && in < 20000) {
			lengths[in] = random_below(&random, 8) ? random_below(&random, 1500)
							       : random_below(&random, 65536);
			if (!put(ring, lengths[in], (uint8_t)in))
				break;
			in++;
		}
		burst = random_below(&random, 60);
		const struct ring_record *record;
		while (burst-- && (record = ring_peek(ring, &data))) {
			cr_assert_eq(record->length, lengths[out]);
			cr_assert_eq(record->ingress, (uint8_t)out);
			if (record->length) {
				cr_assert_eq(data[0], (uint8_t)out);
				cr_assert_eq(data[record->length - 1], (uint8_t)out);
			}
			ring_drop(ring);
			out++;
		}
		cr_assert(in < 20000 || out <= in);
	}
	cr_expect(ring_is_empty(ring));
	cr_expect_null(ring_peek(ring, &data));
	ring_free(ring);
}

Test(ring, refuses_when_full_and_goes_on_when_emptied)
{
	struct ring *ring;
	const uint8_t *data;
	unsigned n = 0;
	cr_assert_eq(ring_new(0, &ring), 0);
	while (put(ring, 1500, 1))
		n++;
	cr_expect_geq(n, RING_BYTES_MIN / (1500 + 64));
	cr_expect_leq(n, RING_BYTES_MIN / 1500);
	cr_expect_not(put(ring, 1500, 1));
	cr_assert_not_null(ring_peek(ring, &data));
	ring_drop(ring);
	cr_expect(put(ring, 1000, 1));
	ring_free(ring);
}

Test(ring, refuses_what_is_longer_than_a_packet)
{
	struct ring *ring;
	struct ring_record record = {.kind = RING_PACKET, .length = RING_PACKET_MAX + 1};
	cr_assert_eq(ring_new(0, &ring), 0);
	cr_expect_not(ring_put(ring, &record, bytes));
	ring_free(ring);
}
