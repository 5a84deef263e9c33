/* SPDX-License-Identifier: Apache-2.0 */
#include "dataplane/embedded.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/base/clock.h"
#include "common/base/err.h"

#define PROGRAM "conat-tablesvc"

enum {
	BACKOFF_LEAST_MS = 100,
	BACKOFF_MOST_MS = 10000,
	LIVED_MS = 30000, /* a child that lived so long begins with the least backoff again */
	STOP_MS = 3000,
	STOP_POLL_MS = 10,
	ENVIRONMENT_MAX = 256,
};

struct embedded {
	char program[PATH_MAX];
	char config[CONF_PATH_MAX];
	char directory[EMBEDDED_SOCKET_MAX];
	char address[EMBEDDED_SOCKET_MAX + 16];
	char level[16], target[16];
	char *environment[ENVIRONMENT_MAX + 1];
	pid_t child;
	struct monotime started;
	int64_t backoff_ms;
	bool served;
	unsigned restarts;
	struct event *died, *again;
	void (*failed)(void *context);
	void *context;
};

/* ---- finding and starting the program ---- */

static bool runnable(const char *path)
{
	struct stat info;
	return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

/* Beside our own binary, where an installation and a package have it, else where the shell looks.
 */
static int find_program(char out[PATH_MAX])
{
	char own[PATH_MAX - sizeof PROGRAM];
	ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
	if (n > 0) {
		own[n] = 0;
		char *slash = strrchr(own, '/');
		if (slash)
			*slash = 0;
		snprintf(out, PATH_MAX, "%s/" PROGRAM, own);
		if (runnable(out))
			return 0;
	}
	const char *path = getenv("PATH");
	while (path && *path) {
		int length = (int)strcspn(path, ":");
		snprintf(out, PATH_MAX, "%.*s/" PROGRAM, length, path);
		if (length > 0 && runnable(out))
			return 0;
		path += length + (path[length] == ':');
	}
	log_error("--table embedded needs the program " PROGRAM ", which is neither beside "
		  "conat-dataplane nor in PATH; install it, or name a service that runs elsewhere");
	return ERR_NOT_FOUND;
}

/* Ours, but for the supervisor's socket: the child is not what the supervisor waits for. */
static void make_environment(struct embedded *embedded)
{
	unsigned n = 0;
	for (char **entry = environ; *entry && n < ENVIRONMENT_MAX; entry++) {
		if (strncmp(*entry, "NOTIFY_SOCKET=", 14) != 0)
			embedded->environment[n++] = *entry;
	}
	embedded->environment[n] = NULL;
}

/*
 * vfork: by the time of a restart there are threads, some of gRPC's, and a fork would run handlers
 * and copy locks that they hold. Until execve the child only makes system calls on its own copies
 * of descriptors and signal state; it must not return or touch anything else of ours.
 */
static int start(struct embedded *embedded)
{
	char parent_text[16];
	pid_t parent = getpid();
	snprintf(parent_text, sizeof parent_text, "%d", (int)parent);
	char *const argv[] = {embedded->program, "--config",	 embedded->config, "--listen",
			      embedded->address, "--child-of",	 parent_text,	   "--log-level",
			      embedded->level,	 "--log-target", embedded->target, NULL};
	sigset_t all, old, none;
	sigfillset(&all);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid_t child = vfork();
	if (child == 0) {
		struct sigaction plain = {.sa_handler = SIG_DFL};
		/* Memory is shared, so no handler of ours may run here before execve. */
		for (int i = 1; i < NSIG; i++)
			sigaction(i, &plain, NULL);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1); /* it went before it could be noticed */
		close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execve(embedded->program, argv, embedded->environment);
		_exit(127);
	}
	int err = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (child < 0) {
		log_error("cannot start %s: %s", embedded->program, strerror(err));
		return ERR_NOMEM;
	}
	embedded->child = child;
	embedded->started = monotime_now();
	log_info("started %s (process %d) on %s", embedded->program, (int)child, embedded->address);
	return 0;
}

/* ---- life and death ---- */

static void say_death(int status)
{
	if (WIFSIGNALED(status))
		log_error("the table service was ended by signal %d (%s)", WTERMSIG(status),
			  strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 127)
		log_error("the table service could not be executed");
	else
		log_error("the table service ended with status %d", WEXITSTATUS(status));
}

static void on_died(evutil_socket_t signal_number, short what, void *context)
{
	struct embedded *embedded = context;
	int status;
	if (embedded->child <= 0 || waitpid(embedded->child, &status, WNOHANG) != embedded->child)
		return;
	embedded->child = 0;
	say_death(status);
	if (!embedded->served) {
		embedded->failed(embedded->context);
		return;
	}
	if (monotime_sub_ms(monotime_now(), embedded->started) >= LIVED_MS)
		embedded->backoff_ms = BACKOFF_LEAST_MS;
	log_notice("starting the table service again in %lld ms", (long long)embedded->backoff_ms);
	struct timeval wait = {embedded->backoff_ms / 1000, embedded->backoff_ms % 1000 * 1000};
	evtimer_add(embedded->again, &wait);
	embedded->backoff_ms *= 2;
	if (embedded->backoff_ms > BACKOFF_MOST_MS)
		embedded->backoff_ms = BACKOFF_MOST_MS;
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
	struct embedded *embedded = context;
	embedded->restarts++;
	if (start(embedded) != 0) {
		struct timeval wait = {BACKOFF_MOST_MS / 1000, 0};
		evtimer_add(embedded->again, &wait);
	}
}

int embedded_new(const char *config, const char *directory, enum log_level level,
		 enum log_target target, struct embedded **out)
{
	static const char *const levels[] = {[LOG_ERROR] = "error",
					     [LOG_WARNING] = "warning",
					     [LOG_NOTICE] = "notice",
					     [LOG_INFO] = "info",
					     [LOG_DEBUG] = "debug"};
	struct embedded *embedded = calloc(1, sizeof *embedded);
	if (!embedded)
		return ERR_NOMEM;
	embedded->backoff_ms = BACKOFF_LEAST_MS;
	snprintf(embedded->config, sizeof embedded->config, "%s", config);
	snprintf(embedded->directory, sizeof embedded->directory, "%s", directory);
	snprintf(embedded->address, sizeof embedded->address, "unix:%s/table.sock", directory);
	snprintf(embedded->level, sizeof embedded->level, "%s", levels[level]);
	snprintf(embedded->target, sizeof embedded->target, "%s",
		 target == LOG_TARGET_JOURNAL ? "journal" : "stderr");
	make_environment(embedded);
	int err = find_program(embedded->program);
	if (!err && access(config, R_OK) != 0) {
		log_error("cannot read the table service's configuration %s: %s", config,
			  strerror(errno));
		err = ERR_NOT_FOUND;
	}
	if (err) {
		free(embedded);
		return err;
	}
	*out = embedded;
	return 0;
}

static void stop_child(pid_t child)
{
	int status;
	kill(child, SIGTERM);
	for (int waited = 0; waited < STOP_MS; waited += STOP_POLL_MS) {
		if (waitpid(child, &status, WNOHANG) == child)
			return;
		nanosleep(&(struct timespec){.tv_nsec = STOP_POLL_MS * MS_NS}, NULL);
	}
	log_warning("the table service does not stop; killing it");
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
}

void embedded_free(struct embedded *embedded)
{
	if (!embedded)
		return;
	if (embedded->died)
		event_free(embedded->died);
	if (embedded->again)
		event_free(embedded->again);
	if (embedded->child > 0)
		stop_child(embedded->child);
	if (embedded->died) /* else the socket there is not ours */
		unlink(embedded->address + strlen("unix:"));
	rmdir(embedded->directory);
	free(embedded);
}

const char *embedded_address(const struct embedded *embedded)
{
	return embedded->address;
}

int embedded_start(struct embedded *embedded, struct event_base *base,
		   void (*failed)(void *context), void *context)
{
	if (mkdir(embedded->directory, 0700) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s for the table service's socket: %s",
			  embedded->directory, strerror(errno));
		return ERR_IO;
	}
	unlink(embedded->address + strlen("unix:")); /* of a run that was killed */
	embedded->failed = failed;
	embedded->context = context;
	embedded->died = evsignal_new(base, SIGCHLD, on_died, embedded);
	embedded->again = evtimer_new(base, on_again, embedded);
	if (!embedded->died || !embedded->again || event_add(embedded->died, NULL) != 0)
		return ERR_NOMEM;
	return start(embedded);
}

void embedded_served(struct embedded *embedded)
{
	embedded->served = true;
}

void embedded_reload(struct embedded *embedded)
{
	if (embedded->child > 0)
		kill(embedded->child, SIGHUP);
}

unsigned embedded_restarts(const struct embedded *embedded)
{
	return embedded->restarts;
}
