/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include "tablesvc/journal.h"

Test(journal_none, positions_grow_and_are_committed_at_once)
{
	struct journal_record record = {.kind = JOURNAL_SESSION_CREATE};
	struct journal *journal;
	uint64_t last;

	cr_assert_eq(journal_none_new(&journal), 0);
	cr_expect_str_eq(journal->ops->name, "none");
	last = journal->ops->committed(journal);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t position = journal->ops->append(journal, &record);
		cr_assert_gt(position, last);
		cr_assert_eq(journal->ops->committed(journal), position);
		last = position;
		journal->ops->flush(journal);
		cr_assert_eq(journal->ops->committed(journal), position);
	}
	journal->ops->free(journal);
}
