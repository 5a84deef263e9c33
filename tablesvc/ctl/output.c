/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/ctl/output.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_BYTES = 256 };

static void ms_text(uint64_t ms, char *out, size_t size)
{
	uint64_t seconds = ms / 1000;

	if (ms > 0 && ms < 10000)
		snprintf(out, size, "%" PRIu64 ".%" PRIu64 "s", seconds, ms % 1000 / 100);
	else if (seconds < 60)
		snprintf(out, size, "%" PRIu64 "s", seconds);
	else if (seconds < 3600)
		snprintf(out, size, "%" PRIu64 "m%02" PRIu64 "s", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(out, size, "%" PRIu64 "h%02" PRIu64 "m", seconds / 3600,
			 seconds % 3600 / 60);
	else
		snprintf(out, size, "%" PRIu64 "d%02" PRIu64 "h", seconds / 86400,
			 seconds % 86400 / 3600);
}

static void bits_text(uint64_t bits, char *out, size_t size)
{
	size_t used = 0;

	snprintf(out, size, "-");
	for (unsigned i = 0; i < 64 && used < size; i++) {
		if (bits >> i & 1)
			used +=
			    (size_t)snprintf(out + used, size - used, "%s%u", used ? "," : "", i);
	}
}

/* Text comes from the network: a terminal gets only what prints, an empty cell a dash. */
static void cell_text(enum output_kind kind, union output_value value, char *out, size_t size)
{
	switch (kind) {
	case OUTPUT_TEXT:
	case OUTPUT_LIST:
		if (snprintf(out, size, "%s", value.text && *value.text ? value.text : "-") >=
		    (int)size)
			memcpy(out + size - 4, "...", 4);
		for (char *p = out; *p; p++) {
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				*p = '?';
		}
		return;
	case OUTPUT_NUMBER:
		snprintf(out, size, "%" PRIu64, value.number);
		return;
	case OUTPUT_BOOL:
		snprintf(out, size, "%s", value.number ? "yes" : "no");
		return;
	case OUTPUT_MS:
		ms_text(value.number, out, size);
		return;
	case OUTPUT_HANDLE:
		snprintf(out, size, "%016" PRIx64, value.number);
		return;
	case OUTPUT_BITS:
		bits_text(value.number, out, size);
		return;
	}
}

static json_t *bits_json(uint64_t bits)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < 64; i++) {
		if (bits >> i & 1)
			json_array_append_new(array, json_integer(i));
	}
	return array;
}

static json_t *list_json(const char *text)
{
	json_t *array = json_array();

	while (text && *text) {
		size_t length = strcspn(text, ",");
		json_array_append_new(array, json_stringn(text, length));
		text += length + (text[length] == ',');
	}
	return array;
}

static json_t *cell_json(enum output_kind kind, union output_value value)
{
	char text[CELL_BYTES];

	switch (kind) {
	case OUTPUT_TEXT:
		return json_string(value.text ? value.text : "");
	case OUTPUT_NUMBER:
	case OUTPUT_MS:
		return json_integer((json_int_t)value.number);
	case OUTPUT_BOOL:
		return json_boolean(value.number != 0);
	case OUTPUT_BITS:
		return bits_json(value.number);
	case OUTPUT_LIST:
		return list_json(value.text);
	case OUTPUT_HANDLE:
		cell_text(kind, value, text, sizeof text);
		return json_string(text);
	}
	return NULL;
}

static void print_json(FILE *file, const struct output_column *columns,
		       const union output_value *values)
{
	json_t *object = json_object();

	for (unsigned i = 0; columns[i].key; i++) {
		json_t *value = cell_json(columns[i].kind, values[i]);
		json_object_set_new(object, columns[i].key, value ? value : json_null());
	}
	if (!object || json_dumpf(object, file, JSON_COMPACT) != 0) {
		fputs("conatctl: out of memory\n", stderr);
		exit(1);
	}
	putc('\n', file);
	json_decref(object);
}

/* The last column of a row is not padded. */
static void print_cell(FILE *file, const struct output_column *column, const char *text)
{
	if (!column[1].key && column->width < 0)
		fprintf(file, "%s\n", text);
	else
		fprintf(file, "%*s%s", column->width, text, column[1].key ? "  " : "\n");
}

void output_start(struct output *output, FILE *file, bool json, const struct output_column *columns)
{
	*output = (struct output){.file = file, .json = json, .columns = columns};
}

static void print_header(const struct output *output)
{
	for (const struct output_column *c = output->columns; !output->json && c->key; c++)
		print_cell(output->file, c, c->header);
}

void output_end(struct output *output)
{
	if (output->rows == 0)
		print_header(output);
}

void output_row(struct output *output, const union output_value *values)
{
	char text[CELL_BYTES];

	if (output->rows++ == 0)
		print_header(output);
	if (output->json) {
		print_json(output->file, output->columns, values);
		return;
	}
	for (unsigned i = 0; output->columns[i].key; i++) {
		cell_text(output->columns[i].kind, values[i], text, sizeof text);
		print_cell(output->file, &output->columns[i], text);
	}
}

void output_single(FILE *file, bool json, const struct output_column *columns,
		   const union output_value *values)
{
	char text[CELL_BYTES];
	int width = 0;

	if (json) {
		print_json(file, columns, values);
		return;
	}
	for (const struct output_column *c = columns; c->key; c++)
		width = (int)strlen(c->header) > width ? (int)strlen(c->header) : width;
	for (unsigned i = 0; columns[i].key; i++) {
		cell_text(columns[i].kind, values[i], text, sizeof text);
		fprintf(file, "%-*s  %s\n", width, columns[i].header, text);
	}
}
