/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share: the clock, how the program ends, and lines on standard input. Defined in main.c. */
#ifndef RNIC_PROGRAM_H
#define RNIC_PROGRAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NSEC 1000000000ull
#define MSEC 1000000ull
#define USEC 1000ull
#define NEVER UINT64_MAX
#define REPORT_VERSION 1
#define MAX_SECONDS 3600
#define DEFAULT_MAX_SECONDS 600

/* Wrong arguments or a workstation that cannot do it: one line on standard error, exit status 2. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void *zeroed(size_t count, size_t bytes);
uint64_t clock_ns(void);
uint64_t cpu_ns(void);
/* A further key of the JSON object being written. */
void report_number(const char *key, uint64_t value);
void report_text(const char *key, const char *text);
uint64_t option_number(const char *name, const char *text, uint64_t least, uint64_t most);
void usage(void) __attribute__((noreturn));

/* TERM and INT arrive here as something to poll for, so none is lost between a look and a sleep. */
int signals_fd(void);

/*
 * Waits until one of `fds` has something or `until_ns` has come: an absolute instant, whatever was computed before.
 * With a timer slack of 1 ns, ppoll sleeps on the same timer as clock_nanosleep, and hears of signals and of
 * sockets that have room again meanwhile.
 */
int wait_until_ns(struct pollfd *fds, size_t count, uint64_t until_ns);

/* Standard input, line by line, without waiting for more than one read. */
struct lines {
	char text[4096];
	size_t used;
	bool ended;
};

enum line_state { LINE_NONE, LINE_READ, LINE_END };

/* One read() of what there is; call it when a poll says so, or to wait. */
void lines_fill(struct lines *in);
/* The next whole line into `line`; LINE_END once the input has ended and all of it was taken. */
enum line_state lines_next(struct lines *in, char *line, size_t size);

int send_main(int argc, char **argv);
int recv_main(int argc, char **argv);
int rc_main(int argc, char **argv);

#endif
