/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows for people or programs. A row is printed as soon as it is there and forgotten: columns have
 * fixed widths, so a list of any length takes constant memory. With --json a row is one object on
 * one line (JSON lines), whatever the command.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum output_kind {
	OUTPUT_TEXT,
	OUTPUT_NUMBER,
	OUTPUT_BOOL,
	OUTPUT_MS,     /* JSON: milliseconds; people: 2h4m */
	OUTPUT_HANDLE, /* hexadecimal: too big for JSON's numbers */
	OUTPUT_BITS,   /* a mask; the numbers of its bits */
	OUTPUT_LIST,   /* text with commas; JSON: an array */
};

struct output_column {
	const char *key, *header; /* key NULL ends a table */
	enum output_kind kind;
	int width; /* of the table for people; negative = left-aligned */
};

union output_value {
	const char *text;
	uint64_t number;
};

enum { OUTPUT_COLUMNS_MAX = 20 };

struct output {
	FILE *file;
	bool json;
	const struct output_column *columns;
	uint64_t rows;
};

/* Prints nothing yet: a call that fails leaves no header behind. */
void output_start(struct output *output, FILE *file, bool json,
		  const struct output_column *columns);
/* One value a column. */
void output_row(struct output *output, const union output_value *values);
/* The list is complete; an empty one still has its header. */
void output_end(struct output *output);
/* One thing, for people as lines of "header: value". */
void output_single(FILE *file, bool json, const struct output_column *columns,
		   const union output_value *values);

#endif
