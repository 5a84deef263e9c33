/* SPDX-License-Identifier: Apache-2.0 */
/* The child's life and death, with shell scripts in the service's place. */
#include <criterion/criterion.h>

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/err.h"
#include "dataplane/embedded.h"

static char place[64], config[96], directory[96], out[96];
static struct event_base *base;
static bool failed;

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");
	cr_assert(file, "%s", path);
	fputs(text, file);
	fclose(file);
	chmod(path, mode);
}

/* A service that says its arguments and process number, then does what body says. */
static void service(const char *body)
{
	char path[128], script[512];
	snprintf(path, sizeof path, "%s/conat-tablesvc", place);
	snprintf(script, sizeof script, "#!/bin/sh\necho \"$$ $*\" >> %s\n%s\n", out, body);
	write_file(path, script, 0755);
}

static void setup(void)
{
	strcpy(place, "/tmp/conat-embedded-XXXXXX");
	cr_assert(mkdtemp(place));
	snprintf(config, sizeof config, "%s/config.yaml", place);
	snprintf(directory, sizeof directory, "%s/socket", place);
	snprintf(out, sizeof out, "%s/out", place);
	write_file(config, "", 0644);
	char path[256];
	snprintf(path, sizeof path, "%s:/usr/bin:/bin", place);
	setenv("PATH", path, 1);
	base = event_base_new();
	failed = false;
}

static void teardown(void)
{
	char command[128];
	event_base_free(base);
	snprintf(command, sizeof command, "rm -r %s", place);
	cr_expect_eq(system(command), 0);
}

TestSuite(embedded, .init = setup, .fini = teardown, .timeout = 30);

static void on_failed(void *context)
{
	failed = true;
	event_base_loopbreak(base);
}

static void turn(int ms)
{
	struct timeval wait = {ms / 1000, ms % 1000 * 1000};
	event_base_loopexit(base, &wait);
	event_base_dispatch(base);
}

/* Lines the scripts wrote; *pid is the last one's. */
static unsigned lives(int *pid)
{
	char line[512];
	unsigned n = 0;
	FILE *file = fopen(out, "r");
	while (file && fgets(line, sizeof line, file)) {
		n++;
		*pid = atoi(line);
	}
	if (file)
		fclose(file);
	return n;
}

/* Waits for n lives; the process number of the last. */
static int wait_lives(unsigned n)
{
	int pid = 0;
	for (int i = 0; i < 100 && lives(&pid) < n; i++)
		turn(50);
	cr_assert_eq(lives(&pid), n, "%u lives", n);
	return pid;
}

static struct embedded *make(void)
{
	struct embedded *embedded = NULL;
	cr_assert_eq(embedded_new(config, directory, LOG_INFO, LOG_TARGET_STDERR, &embedded), 0);
	cr_assert_eq(embedded_start(embedded, base, on_failed, NULL), 0);
	return embedded;
}

Test(embedded, starts_and_stops_with_us)
{
	service("exec sleep 60");
	struct embedded *embedded = make();
	int pid = wait_lives(1);
	struct stat info;
	cr_assert_eq(stat(directory, &info), 0);
	cr_expect_eq(info.st_mode & 07777, 0700);
	char line[512] = "", expected[256];
	FILE *file = fopen(out, "r");
	cr_assert(fgets(line, sizeof line, file));
	fclose(file);
	snprintf(expected, sizeof expected, "--config %s --listen unix:%s/table.sock", config,
		 directory);
	cr_expect(strstr(line, expected), "%s", line);
	embedded_free(embedded);
	cr_expect(kill(pid, 0) == -1 && errno == ESRCH, "it is gone, and was waited for");
	cr_expect_eq(access(directory, F_OK), -1);
}

Test(embedded, gives_up_when_it_never_served)
{
	service("exit 3");
	struct embedded *embedded = make();
	turn(3000);
	cr_expect(failed);
	cr_expect_eq(embedded_restarts(embedded), 0);
	embedded_free(embedded);
}

Test(embedded, comes_back_when_it_dies_later)
{
	service("exec sleep 60");
	struct embedded *embedded = make();
	int pid = wait_lives(1);
	embedded_served(embedded);
	kill(pid, SIGKILL);
	int again = wait_lives(2);
	cr_expect_neq(pid, again);
	cr_expect_eq(embedded_restarts(embedded), 1);
	cr_expect(!failed);
	embedded_free(embedded);
	cr_expect(kill(again, 0) == -1 && errno == ESRCH);
}

Test(embedded, waits_longer_each_time)
{
	service("exit 1");
	struct embedded *embedded = make();
	embedded_served(embedded);
	turn(1000); /* at 0, 100, 300, 700 ms, and next at 1500 */
	int pid;
	unsigned n = lives(&pid);
	cr_expect(n >= 2 && n <= 4, "%u lives in a second", n);
	embedded_free(embedded);
}

Test(embedded, is_killed_when_it_does_not_stop)
{
	service("trap '' TERM; echo ready >> \"$0.ready\"; while :; do sleep 0.1; done");
	struct embedded *embedded = make();
	int pid = wait_lives(1);
	char ready[128];
	snprintf(ready, sizeof ready, "%s/conat-tablesvc.ready", place);
	for (int i = 0; i < 100 && access(ready, F_OK) != 0; i++)
		turn(20);
	embedded_free(embedded);
	cr_expect(kill(pid, 0) == -1 && errno == ESRCH);
}

Test(embedded, dies_with_its_parent)
{
	service("exec sleep 60");
	pid_t parent = fork();
	if (parent == 0) {
		event_reinit(base);
		make();
		for (;;)
			pause();
	}
	int pid = wait_lives(1);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	bool gone = false;
	for (int i = 0; i < 100 && !gone; i++) {
		char path[32], state = '?';
		snprintf(path, sizeof path, "/proc/%d/stat", pid);
		FILE *file = fopen(path, "r");
		/* An orphan may wait for its new parent to notice. */
		gone = !file || (fscanf(file, "%*d (%*[^)]) %c", &state) == 1 && state == 'Z');
		if (file)
			fclose(file);
		turn(20);
	}
	cr_expect(gone);
}

Test(embedded, needs_its_configuration_and_its_program)
{
	struct embedded *embedded = NULL;
	cr_expect_eq(embedded_new(config, directory, LOG_INFO, LOG_TARGET_STDERR, &embedded),
		     ERR_NOT_FOUND, "no program");
	service("exit 0");
	cr_expect_eq(
	    embedded_new("/nonexistent", directory, LOG_INFO, LOG_TARGET_STDERR, &embedded),
	    ERR_NOT_FOUND);
	cr_expect_null(embedded);
}
