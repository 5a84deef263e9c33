/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to struct config. libyaml composes the document; walking it by the schema is ours, because
 * an error has to name file, line, key, what is wrong and what is allowed. Keys are looked up in
 * the schema's order, so the file may have them in any.
 */
#include "tablesvc/config_schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "common/base/err.h"

enum { FILE_BYTES_MAX = 4 << 20, DEPTH_MAX = 16, PATH_BYTES = 160, WHY_BYTES = 400 };

struct reader {
	const char *name;
	yaml_document_t document;
	struct config *config;
	char path[PATH_BYTES]; /* of the node being read: pools[1].prefixes[0] */
	char *error;
	unsigned error_size;
};

__attribute__((format(printf, 3, 4))) static int fail_at(struct reader *reader, size_t line,
							 const char *format, ...)
{
	char why[WHY_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why, sizeof why, format, arguments);
	va_end(arguments);
	snprintf(reader->error, reader->error_size, "%s:%zu: %s%s%s", reader->name, line + 1,
		 reader->path, reader->path[0] ? ": " : "", why);
	return ERR_INVALID;
}
#define fail_node(reader, node, ...) fail_at(reader, (node)->start_mark.line, __VA_ARGS__)

/* Appends to the path; returns what pop takes. */
static size_t push_key(struct reader *reader, const char *key)
{
	size_t length = strlen(reader->path);
	snprintf(reader->path + length, PATH_BYTES - length, "%s%s", length ? "." : "", key);
	return length;
}

static size_t push_index(struct reader *reader, unsigned index)
{
	size_t length = strlen(reader->path);
	snprintf(reader->path + length, PATH_BYTES - length, "[%u]", index);
	return length;
}

static void pop(struct reader *reader, size_t length)
{
	reader->path[length] = '\0';
}

static yaml_node_t *node_of(struct reader *reader, int index)
{
	return yaml_document_get_node(&reader->document, index);
}

static const char *type_name(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE	  ? "a single value"
	       : node->type == YAML_SEQUENCE_NODE ? "a list"
						  : "a group of keys";
}

/* "key:" with nothing behind it. */
static bool is_null(const yaml_node_t *node)
{
	return node->type == YAML_SCALAR_NODE &&
	       node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (node->data.scalar.length == 0 ||
		strcmp((const char *)node->data.scalar.value, "~") == 0 ||
		strcmp((const char *)node->data.scalar.value, "null") == 0);
}

/*
 * Printable ASCII only: what goes into error sentences and comes out of config_print must be one
 * line, and no key of ours needs more.
 */
static const char *scalar_text(const yaml_node_t *node)
{
	const unsigned char *value = node->data.scalar.value;

	for (size_t i = 0; i < node->data.scalar.length; i++) {
		if (value[i] < 0x20 || value[i] > 0x7e)
			return NULL;
	}
	return (const char *)value;
}

static int check_tag(struct reader *reader, const yaml_node_t *node)
{
	const char *tag = (const char *)node->tag;

	if (tag && strcmp(tag, YAML_DEFAULT_SCALAR_TAG) != 0 &&
	    strcmp(tag, YAML_DEFAULT_SEQUENCE_TAG) != 0 &&
	    strcmp(tag, YAML_DEFAULT_MAPPING_TAG) != 0)
		return fail_node(reader, node, "has a YAML tag; allowed: values without tags");
	return 0;
}

static void allowed_keys(const struct config_key *keys, char *out, unsigned size)
{
	unsigned used = 0;

	for (; keys->name && used < size; keys++)
		used += (unsigned)snprintf(out + used, size - used, "%s%s", used ? ", " : "",
					   keys->name);
}

/* What a key of former versions is now. */
static const char *instead_of(const char *key)
{
	return strcmp(key, "tcp_transitory") == 0 ? "tcp_opening and tcp_closing" : NULL;
}

/* Unknown keys and duplicates, before any value is looked at. */
static int check_keys(struct reader *reader, const yaml_node_t *map, const struct config_key *keys)
{
	char allowed[320];
	uint32_t seen = 0;

	allowed_keys(keys, allowed, sizeof allowed);
	for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
	     pair < map->data.mapping.pairs.top; pair++) {
		yaml_node_t *name = node_of(reader, pair->key);
		const char *text = name->type == YAML_SCALAR_NODE ? scalar_text(name) : NULL;
		unsigned i = 0;
		if (!text)
			return fail_node(reader, name, "a key that is not plain text; allowed: %s",
					 allowed);
		while (keys[i].name && strcmp(keys[i].name, text) != 0)
			i++;
		if (!keys[i].name && instead_of(text))
			return fail_node(reader, name, "key \"%s\" is now %s", text,
					 instead_of(text));
		if (!keys[i].name)
			return fail_node(reader, name, "unknown key \"%.60s\"; allowed: %s", text,
					 allowed);
		if (seen & 1u << i)
			return fail_node(reader, name, "key \"%s\" is there twice; allowed: once",
					 text);
		seen |= 1u << i;
	}
	return 0;
}

static yaml_node_t *find(struct reader *reader, const yaml_node_t *map, const char *key)
{
	for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
	     pair < map->data.mapping.pairs.top; pair++) {
		yaml_node_t *name = node_of(reader, pair->key);
		if (strcmp((const char *)name->data.scalar.value, key) == 0)
			return node_of(reader, pair->value);
	}
	return NULL;
}

static int read_scalar(struct reader *reader, const struct config_key *key, enum config_kind kind,
		       const yaml_node_t *node, void *at)
{
	char why[WHY_BYTES];

	if (node->type != YAML_SCALAR_NODE)
		return fail_node(reader, node, "is %s; allowed: a single value", type_name(node));
	int err = check_tag(reader, node);
	if (err)
		return err;
	const char *text = scalar_text(node);
	if (!text)
		return fail_node(reader, node,
				 "holds a character that is not printable ASCII; allowed: "
				 "printable ASCII");
	if (is_null(node) && kind != CONFIG_TEXT && kind != CONFIG_ADMIN)
		return fail_node(reader, node, "has no value; leave the key out for its default");
	err = config_value_read(key, kind, text, reader->config, at, why, sizeof why);
	return err ? fail_node(reader, node, "%s", why) : 0;
}

static int read_map(struct reader *reader, const yaml_node_t *node, const struct config_key *keys,
		    void *base);

static void item_defaults(struct config *config, const struct config_key *list, void *item,
			  unsigned index)
{
	if ((void *)((char *)config + list->offset) == (void *)&config->pools) {
		struct config_pool *pool = item;
		pool->port_first = 1024;
		pool->port_last = 65535;
		pool->block_size = 256;
		pool->filtering_udp = CONFIG_ADF;
		pool->filtering_tcp = CONFIG_ADF;
		pool->parity = true;
		pool->warn_above = 90;
	} else if ((void *)((char *)config + list->offset) == (void *)&config->realms) {
		struct config_realm *realm = item;
		realm->id = (uint8_t)(index + 1);
	}
}

/*
 * The count grows with the items read, so that a half-read list is freed like a whole one. A single
 * value where a list of values belongs is a list of one.
 */
static int read_list(struct reader *reader, const struct config_key *key, const yaml_node_t *node,
		     void *base)
{
	unsigned *count = (unsigned *)(void *)((char *)base + key->count_offset);
	char *items = (char *)base + key->offset;
	bool single = node->type == YAML_SCALAR_NODE && !key->keys && !is_null(node);
	size_t n = 0;

	if (node->type == YAML_SEQUENCE_NODE)
		n = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
	else if (single)
		n = 1;
	else if (!is_null(node))
		return fail_node(reader, node, "is %s; allowed: a list", type_name(node));
	if (n < key->min || n > key->max)
		return fail_node(reader, node, "has %zu entries; allowed: %u to %u", n, key->min,
				 key->max);
	int err = check_tag(reader, node);
	if (err)
		return err;
	if (key->kind == CONFIG_LIST) {
		void **pointer = (void **)(void *)items;
		*pointer = calloc(n ? n : 1, key->item_size);
		if (!*pointer)
			return ERR_NOMEM;
		items = *pointer;
	} else {
		memset(items, 0, (size_t)key->max * key->item_size);
	}
	*count = 0;
	for (unsigned i = 0; i < n; i++) {
		const yaml_node_t *item =
		    single ? node : node_of(reader, node->data.sequence.items.start[i]);
		char *at = items + (size_t)i * key->item_size;
		size_t length = single ? strlen(reader->path) : push_index(reader, i);
		item_defaults(reader->config, key, at, i);
		*count = i + 1;
		err = key->keys ? read_map(reader, item, key->keys, at)
				: read_scalar(reader, key, key->item, item, at);
		if (err)
			return err;
		pop(reader, length);
	}
	return 0;
}

static int read_map(struct reader *reader, const yaml_node_t *node, const struct config_key *keys,
		    void *base)
{
	char allowed[320];

	if (node->type != YAML_MAPPING_NODE) {
		allowed_keys(keys, allowed, sizeof allowed);
		return fail_node(reader, node, "is %s; allowed: the keys %s", type_name(node),
				 allowed);
	}
	int err = check_tag(reader, node);
	if (!err)
		err = check_keys(reader, node, keys);
	for (const struct config_key *key = keys; !err && key->name; key++) {
		const yaml_node_t *value = find(reader, node, key->name);
		if (!value && key->required)
			return fail_node(reader, node, "the key \"%s\" is missing", key->name);
		if (!value || (key->kind == CONFIG_MAP && is_null(value)))
			continue;
		size_t length = push_key(reader, key->name);
		if (key->kind == CONFIG_MAP)
			err = read_map(reader, value, key->keys, base);
		else if (key->kind == CONFIG_LIST || key->kind == CONFIG_LIST_INLINE)
			err = read_list(reader, key, value, base);
		else
			err =
			    read_scalar(reader, key, key->kind, value, (char *)base + key->offset);
		if (!err)
			pop(reader, length);
	}
	return err;
}

/* The line of a path as config_check names it, or of the nearest group around it that is there. */
static size_t line_of(struct reader *reader, const char *path)
{
	const yaml_node_t *node = yaml_document_get_root_node(&reader->document);
	size_t line = node->start_mark.line;

	while (*path) {
		const yaml_node_t *next = NULL;
		if (*path == '[') {
			unsigned long i = strtoul(path + 1, NULL, 10);
			if (node->type == YAML_SEQUENCE_NODE &&
			    i < (size_t)(node->data.sequence.items.top -
					 node->data.sequence.items.start))
				next = node_of(reader, node->data.sequence.items.start[i]);
			path += strcspn(path, "]") + 1;
		} else {
			char key[64];
			path += *path == '.';
			size_t length = strcspn(path, ".[");
			snprintf(key, sizeof key, "%.*s", (int)length, path);
			if (node->type == YAML_MAPPING_NODE)
				next = find(reader, node, key);
			path += length;
		}
		if (!next)
			return line;
		node = next;
		line = node->start_mark.line;
	}
	return line;
}

static int read_document(struct reader *reader, yaml_parser_t *parser)
{
	char why[WHY_BYTES];
	yaml_document_t second;
	yaml_node_t *root = yaml_document_get_root_node(&reader->document);

	if (!root) {
		snprintf(reader->error, reader->error_size,
			 "%s:1: the file is empty; it needs at least pools and realms",
			 reader->name);
		return ERR_INVALID;
	}
	int err = read_map(reader, root, config_keys, reader->config);
	if (err)
		return err;
	if (!yaml_parser_load(parser, &second))
		return fail_at(reader, parser->problem_mark.line, "not YAML: %s", parser->problem);
	yaml_node_t *extra = yaml_document_get_root_node(&second);
	size_t line = extra ? extra->start_mark.line : 0;
	yaml_document_delete(&second);
	if (extra)
		return fail_at(reader, line, "a second YAML document; allowed: one");
	err = config_check(reader->config, reader->path, PATH_BYTES, why, sizeof why);
	return err ? fail_at(reader, line_of(reader, reader->path), "%s", why) : 0;
}

/*
 * A first pass over the events: libyaml takes quadratic time over deep nesting (a minute for
 * 100,000 brackets), and an alias may lead back to its own list. Neither has a use here.
 */
static int check_shape(struct reader *reader, const char *text, unsigned length)
{
	yaml_parser_t parser;
	yaml_event_t event;
	unsigned depth = 0;
	bool done = false;
	int err = 0;

	if (!yaml_parser_initialize(&parser))
		return ERR_NOMEM;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	while (!err && !done) {
		if (!yaml_parser_parse(&parser, &event)) {
			err = fail_at(reader, parser.problem_mark.line, "not YAML: %s",
				      parser.problem ? parser.problem : "out of memory");
			break;
		}
		done = event.type == YAML_STREAM_END_EVENT;
		depth += event.type == YAML_SEQUENCE_START_EVENT ||
			 event.type == YAML_MAPPING_START_EVENT;
		depth -=
		    event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT;
		if (depth > DEPTH_MAX)
			err =
			    fail_at(reader, event.start_mark.line,
				    "nested more than %d deep; the keys here never are", DEPTH_MAX);
		else if (event.type == YAML_ALIAS_EVENT)
			err = fail_at(reader, event.start_mark.line,
				      "a YAML alias (*name); allowed: the value itself");
		yaml_event_delete(&event);
	}
	yaml_parser_delete(&parser);
	return err;
}

int config_parse(const char *name, const char *text, unsigned length, struct config **out,
		 char *error, unsigned error_size)
{
	struct reader reader = {.name = name, .error = error, .error_size = error_size};
	yaml_parser_t parser;
	int err;

	snprintf(error, error_size, "%s: out of memory", name);
	reader.config = malloc(sizeof *reader.config);
	if (!reader.config)
		return ERR_NOMEM;
	config_defaults(reader.config);
	err = check_shape(&reader, text, length);
	if (err)
		goto free_config;
	err = ERR_NOMEM;
	if (!yaml_parser_initialize(&parser))
		goto free_config;
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
	if (yaml_parser_load(&parser, &reader.document)) {
		err = read_document(&reader, &parser);
		yaml_document_delete(&reader.document);
	} else if (parser.problem) {
		err = fail_at(&reader, parser.problem_mark.line, "not YAML: %s", parser.problem);
	}
	yaml_parser_delete(&parser);
free_config:
	if (err) {
		config_free(reader.config);
		return err;
	}
	error[0] = '\0';
	*out = reader.config;
	return 0;
}

int config_load(const char *path, struct config **out, char *error, unsigned error_size)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t length = 0;
	int err = ERR_IO;

	if (!file) {
		snprintf(error, error_size, "%s: cannot be opened: %s", path, strerror(errno));
		return ERR_IO;
	}
	text = malloc(FILE_BYTES_MAX + 1);
	if (!text) {
		snprintf(error, error_size, "%s: out of memory", path);
		err = ERR_NOMEM;
		goto out;
	}
	length = fread(text, 1, FILE_BYTES_MAX + 1, file);
	if (ferror(file))
		snprintf(error, error_size, "%s: cannot be read: %s", path, strerror(errno));
	else if (length > FILE_BYTES_MAX)
		snprintf(error, error_size,
			 "%s: is larger than %d MiB, too much for a "
			 "configuration",
			 path, FILE_BYTES_MAX >> 20);
	else
		err = config_parse(path, text, (unsigned)length, out, error, error_size);
out:
	free(text);
	fclose(file);
	return err;
}
