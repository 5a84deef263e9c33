/* SPDX-License-Identifier: Apache-2.0 */
/* The table's own deep copy of the configuration: what the caller does with its own is its affair. */
#include "tablesvc/table_internal.h"

#include <stdlib.h>
#include <string.h>

static void *copy_of(const void *from, size_t n, size_t size, int *err)
{
	if (n == 0)
		return NULL;
	void *to = malloc(n * size);
	if (to)
		memcpy(to, from, n * size);
	else
		*err = ERR_NOMEM;
	return to;
}

int settings_copy(struct config *to, const struct config *from)
{
	int err = 0;

	*to = *from;
	to->pcp.listen = NULL; /* the server's affair */
	to->pcp.n_listen = 0;
	to->pools = copy_of(from->pools, from->n_pools, sizeof *from->pools, &err);
	to->realms = copy_of(from->realms, from->n_realms, sizeof *from->realms, &err);
	to->bypass = copy_of(from->bypass, from->n_bypass, sizeof *from->bypass, &err);
	to->statics = copy_of(from->statics, from->n_statics, sizeof *from->statics, &err);
	to->redirects = copy_of(from->redirects, from->n_redirects, sizeof *from->redirects, &err);
	for (unsigned i = 0; to->pools && i < to->n_pools; i++)
		to->pools[i].prefixes =
		    copy_of(from->pools[i].prefixes, from->pools[i].n_prefixes,
			    sizeof(struct config_prefix), &err);
	for (unsigned i = 0; to->realms && i < to->n_realms; i++)
		to->realms[i].identity =
		    copy_of(from->realms[i].identity, from->realms[i].n_identity,
			    sizeof(struct config_prefix), &err);
	for (unsigned i = 0; to->realms && i < to->n_realms; i++)
		to->realms[i].prefixes =
		    copy_of(from->realms[i].prefixes, from->realms[i].n_prefixes,
			    sizeof(struct config_prefix), &err);
	if (err)
		settings_free(to);
	return err;
}

void settings_free(struct config *settings)
{
	for (unsigned i = 0; settings->pools && i < settings->n_pools; i++)
		free(settings->pools[i].prefixes);
	for (unsigned i = 0; settings->realms && i < settings->n_realms; i++) {
		free(settings->realms[i].prefixes);
		free(settings->realms[i].identity);
	}
	free(settings->pools);
	free(settings->realms);
	free(settings->bypass);
	free(settings->statics);
	free(settings->redirects);
	settings->pools = NULL;
	settings->realms = NULL;
	settings->bypass = NULL;
	settings->statics = NULL;
	settings->redirects = NULL;
}
