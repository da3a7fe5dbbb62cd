// SPDX-License-Identifier: Apache-2.0
/*
 * asicd: the half of the soft ASIC that is a process. One a lab, in two processes: the one that works, and a guard
 * that opens every gate should the worker die, so that nothing stays paused.
 *
 *   asicd --folder DIR --objects DIR --ports N --nodes N --profiles N --pools N --matrix N --stamp N [--cls-bpf]
 *         [--groups N]       rows of the table of resilient groups' buckets, one more than there may be groups
 *         [--own-ports]      the ports go with the lab: at the end only the programs are taken off
 *   asicd --release DIR      open the gates that a dead asicd left closed
 *   asicd --strip DIR        and take its queues off the ports
 *
 * It says `ready` on standard output, then takes commands at DIR/control (control.c). Its maps are under DIR/maps.
 * TERM ends it: programs and queues are taken off the ports.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "asicd.h"

#define GROUPS	256	/* unless we are told */

static struct asic asic;

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

void say(const char *format, ...)
{
	struct timespec now;
	struct tm parts;
	char when[32];
	va_list list;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &parts);
	fprintf(stderr, "%s.%06ldZ ", when, now.tv_nsec / 1000);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	fflush(stderr);
}

static void on_signal(int number)
{
	(void)number;
	asic.stopping = 1;
}

static int quiet_libbpf(enum libbpf_print_level level, const char *format, va_list list)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, list) : 0;
}

static int mount_maps(char *error)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/maps", asic.folder);
	if ((mkdir(path, 0700) && errno != EEXIST) || mount("bpf", path, "bpf", 0, "mode=0700")) {
		snprintf(error, ERROR_SIZE, "%s: %s", path, strerror(errno));
		return -1;
	}
	return 0;
}

static void unmount_maps(void)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/maps", asic.folder);
	umount2(path, MNT_DETACH);
	rmdir(path);
}

static int prepare(char *error)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	pthread_mutexattr_t inherits;

	setrlimit(RLIMIT_MEMLOCK, &all);
	asic.port = calloc(asic.port_count + 1, sizeof(*asic.port));
	asic.node = calloc(asic.node_count, sizeof(*asic.node));
	asic.due = calloc(asic.port_count + 1, sizeof(*asic.due));
	asic.wake = eventfd(0, EFD_CLOEXEC);
	asic.home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	/* The reactor must not wait behind a thread that nobody lets run. */
	pthread_mutexattr_init(&inherits);
	pthread_mutexattr_setprotocol(&inherits, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&asic.lock, &inherits);
	if (!asic.port || !asic.node || !asic.due || asic.wake < 0 || engine_prepare(&asic)) {
		snprintf(error, ERROR_SIZE, "out of memory");
		return -1;
	}
	for (unsigned i = 0; i <= asic.port_count; i++)
		asic.port[i].links[0] = asic.port[i].links[1] = -1;
	for (unsigned i = 0; i < asic.node_count; i++)
		asic.node[i] = (struct node){
			.ns = {.fd = -1, .route = -1, .ask = -1, .packet = -1, .kick = -1}, .ingress_fd = -1, .egress_fd = -1};
	return mount_maps(error) || maps_open(&asic, error) ? -1 : 0;
}

static int work(void)
{
	char error[ERROR_SIZE] = "";
	pthread_t thread;
	int listener;
	uint64_t one = 1;

	/* Should the guard be killed, end in good order. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (prepare(error) || (listener = control_open(asic.folder, error)) < 0) {
		unmount_maps();
		fprintf(stdout, "error %s\n", error);
		fflush(stdout);
		return 2;
	}
	asic.state->pid = getpid();
	asic.state->started_ns = now_ns();
	/* What the reaction needs is in memory before it is needed. */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	pthread_create(&thread, NULL, reactor, &asic);
	puts("ready");
	fflush(stdout);
	control_serve(&asic, listener);
	asic.stopping = 1;
	(void)!write(asic.wake, &one, sizeof(one));
	pthread_join(thread, NULL);
	asic_detach(&asic);
	engine_stop(&asic);
	unmount_maps();
	return 0;
}

static void catch_signals(void (*how)(int))
{
	struct sigaction action = {.sa_handler = how};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static pid_t worker;

static void pass_on(int number)
{
	(void)number;
	kill(worker, SIGTERM);
}

static int guard(void)
{
	int status;

	catch_signals(on_signal);
	worker = fork();
	if (worker < 0)
		return 2;
	if (!worker)
		exit(work());
	catch_signals(pass_on);
	fclose(stdout);
	while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) != 1)
		return WEXITSTATUS(status);
	say("asicd died (status %#x): every gate is opened", status);
	asic_release(asic.folder, 0);
	unmount_maps();
	return 1;
}

static unsigned number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*end || !*text || value > 1UL << 28) {
		fprintf(stderr, "asicd: %s is no number\n", text);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"folder", 1, 0, 'f'}, {"objects", 1, 0, 'o'}, {"ports", 1, 0, 'p'},   {"nodes", 1, 0, 'n'},
		{"profiles", 1, 0, 'c'}, {"pools", 1, 0, 'b'},	 {"matrix", 1, 0, 'm'},  {"stamp", 1, 0, 's'},
		{"groups", 1, 0, 'g'},	 {"cls-bpf", 0, 0, 'l'}, {"own-ports", 0, 0, 'w'}, {"release", 1, 0, 'r'}, {"strip", 1, 0, 't'}, {}};
	int option;

	asic.group_count = GROUPS;
	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'f': asic.folder = optarg; break;
		case 'o': asic.objects = optarg; break;
		case 'p': asic.port_count = number(optarg); break;
		case 'n': asic.node_count = number(optarg); break;
		case 'c': asic.profile_count = number(optarg); break;
		case 'b': asic.pool_count = number(optarg); break;
		case 'm': asic.matrix_count = number(optarg); break;
		case 's': asic.stamp = number(optarg); break;
		case 'g': asic.group_count = number(optarg); break;
		case 'l': asic.cls_bpf = 1; break;
		case 'w': asic.own_ports = 1; break;
		case 'r': asic_release(optarg, 0); return 0;
		case 't': asic_release(optarg, 1); return 0;
		default: return 2;
		}
	}
	if (!asic.folder || !asic.objects || !asic.port_count || !asic.node_count || !asic.profile_count ||
	    asic.pool_count < POOLS || !asic.matrix_count || !asic.group_count || !asic.stamp || asic.stamp >= 1 << 13) {
		fprintf(stderr, "asicd: see its first lines for what it takes\n");
		return 2;
	}
	libbpf_set_print(quiet_libbpf);
	return guard();
}
