/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim [--seeds N] [--from N] [-j N]         run seeds, on N processes (0: one a CPU); prints those
 *                                           that fail, exits 1
 * sim --seed N [--trace]                    one seed, with everything that happens
 * sim --mutate NAME [--seeds N]             test build: one protection is off; exits 0 when a seed
 *                                           fails, as it must
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/sim/sim.h"
#include "tests/sim/mutation.h"

enum { PROCESSES_MAX = 64, REPORTED_MAX = 10, COVERING_SEEDS = 500 };

struct shared {			    /* between the processes */
	uint64_t at[PROCESSES_MAX]; /* the seed each is at */
	uint64_t failed, steps, translated, done;
	int stop;
	struct coverage coverage;
};

void trace(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (!sim->trace)
		return;
	printf("%10.4f ", (double)(sim->now - 1000 * SECOND_NS) / 1e6);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

void fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (sim->failed)
		return;
	sim->failed = true;
	va_start(args, format);
	vsnprintf(sim->failure, sizeof sim->failure, format, args);
	va_end(args);
	trace(sim, "FAILED: %s", sim->failure);
}

static void cover(struct coverage *all, const struct coverage *one)
{
#define COVER_ADD(name) __atomic_add_fetch(&all->name, one->name, __ATOMIC_RELAXED);
	COVERED(COVER_ADD)
#undef COVER_ADD
}

/* Prints what happened; true when all of it did. */
static bool covered(const struct coverage *all)
{
	bool complete = true;
#define COVER_PRINT(name)                                                                          \
	printf("%s %lu, ", #name, (unsigned long)all->name);                                       \
	complete = complete && all->name;
	COVERED(COVER_PRINT)
#undef COVER_PRINT
	printf("in all\n");
	return complete;
}

static void run_some(struct shared *shared, unsigned process, unsigned processes, uint64_t from,
		     uint64_t seeds, bool stop_at_first, bool quiet)
{
	static struct sim sim;

	for (uint64_t i = process; i < seeds && !__atomic_load_n(&shared->stop, __ATOMIC_RELAXED);
	     i += processes) {
		shared->at[process] = from + i;
		bool good = sim_run(&sim, from + i, false);
		__atomic_add_fetch(&shared->done, 1, __ATOMIC_RELAXED);
		cover(&shared->coverage, &sim.coverage);
		__atomic_add_fetch(&shared->steps, sim.steps, __ATOMIC_RELAXED);
		for (unsigned d = 0; d < sim.shape.dataplanes; d++)
			__atomic_add_fetch(&shared->translated, sim.dataplanes[d].translated,
					   __ATOMIC_RELAXED);
		if (good)
			continue;
		uint64_t failed = __atomic_add_fetch(&shared->failed, 1, __ATOMIC_RELAXED);
		if (failed <= REPORTED_MAX || !quiet) {
			printf("seed %lu at %.1f ms: %s\n", (unsigned long)sim.seed,
			       (double)(sim.now - 1000 * SECOND_NS) / 1e6, sim.failure);
			fflush(stdout);
		}
		if (stop_at_first || failed >= REPORTED_MAX)
			__atomic_store_n(&shared->stop, 1, __ATOMIC_RELAXED);
	}
}

/* 0 when no seed failed and no process died. */
static int run_all(struct shared *shared, unsigned processes, uint64_t from, uint64_t seeds,
		   bool stop_at_first)
{
	pid_t children[PROCESSES_MAX];
	int result = 0;

	for (unsigned p = 0; p < processes; p++) {
		fflush(stdout);
		children[p] = fork();
		if (children[p] < 0) {
			perror("fork");
			exit(2);
		}
		if (children[p] == 0) {
			run_some(shared, p, processes, from, seeds, stop_at_first, true);
			fflush(stdout);
			exit(0); /* not _exit: the leak sanitizer looks now */
		}
	}
	for (unsigned p = 0; p < processes; p++) {
		int status;
		waitpid(children[p], &status, 0);
		if (status != 0) {
			printf("seed %lu: the process died (status %x)\n",
			       (unsigned long)shared->at[p], status);
			result = 2;
		}
	}
	return shared->failed ? 1 : result;
}

static int usage(void)
{
	fprintf(stderr, "usage: sim [--seeds N] [--from N] [-j N] | --seed N [--trace]%s\n",
		mutation_names());
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t seeds = 1000, from = 1, one = 0;
	unsigned long processes = 1;
	bool traced = false;
	static struct sim sim;

	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		if (strcmp(argv[i], "--seeds") == 0 && more)
			seeds = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--from") == 0 && more)
			from = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0 && more)
			one = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "-j") == 0 && more)
			processes = strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--trace") == 0)
			traced = true;
		else if (strcmp(argv[i], "--mutate") == 0 && more && mutation_set(argv[i + 1]))
			i++;
		else
			return usage();
	}
	if (one) {
		bool good = sim_run(&sim, one, traced);
		printf("seed %lu: %s\n", (unsigned long)one, good ? "good" : sim.failure);
		return !good;
	}
	if (processes == 0)
		processes = (unsigned long)sysconf(_SC_NPROCESSORS_ONLN);
	if (processes < 1 || processes > PROCESSES_MAX)
		processes = processes ? PROCESSES_MAX : 1;
	struct shared *shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 2;
	int result = run_all(shared, (unsigned)processes, from, seeds, mutation_must_fail());
	printf("%lu seeds, %lu steps, %lu packets translated: %lu failed\n",
	       (unsigned long)shared->done, (unsigned long)shared->steps,
	       (unsigned long)shared->translated, (unsigned long)shared->failed);
	if (mutation_must_fail()) {
		printf(result == 1 ? "found, as it must be\n"
				   : "NOT FOUND: the simulator does not see this\n");
		return result != 1;
	}
	if (!covered(&shared->coverage) && result == 0 && seeds >= COVERING_SEEDS) {
		printf("a 0 above: the simulator does not test that any more\n");
		result = 3;
	}
	return result;
}
