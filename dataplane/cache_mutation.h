/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutation checks: tests/sim builds the cache a second time with CONAT_CACHE_MUTABLE and switches
 * one protection off; the simulator must then find a violation. Otherwise all this is constant
 * false.
 */
#ifndef DATAPLANE_CACHE_MUTATION_H
#define DATAPLANE_CACHE_MUTATION_H

enum cache_mutation {
	CACHE_MUTATION_NONE,
	CACHE_MUTATION_NO_LEASE,      /* the deadline of lease and grace is ignored */
	CACHE_MUTATION_ACK_FIRST,     /* invalidations are acknowledged, removed at the next tick */
	CACHE_MUTATION_NO_WAIT,	      /* acknowledged while readers may still use the entry */
	CACHE_MUTATION_NO_TAKEN_BACK, /* answers are used although a RELEASE overtook them */
};

#ifdef CONAT_CACHE_MUTABLE
extern enum cache_mutation cache_mutation;
#define cache_mutated(which) (cache_mutation == (which))
#else
#define cache_mutated(which) ((void)(which), 0)
#endif

#endif
