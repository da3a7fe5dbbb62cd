// SPDX-License-Identifier: Apache-2.0
/* What an asicd that died has left behind, by the list that it wrote before it began. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "asicd.h"

/* Write down whose gates asic_release has to open, should we die. */
int release_note(struct asic *asic, char *error)
{
	char path[300], next[310];
	FILE *file;

	snprintf(path, sizeof(path), "%s/ports", asic->folder);
	snprintf(next, sizeof(next), "%s.next", path);
	file = fopen(next, "we");
	if (!file) {
		snprintf(error, ERROR_SIZE, "%s: %s", next, strerror(errno));
		return -1;
	}
	fprintf(file, "%d\n", asic->cls_bpf);
	for (unsigned i = 1; i <= asic->port_count; i++)
		fprintf(file, "%s %s\n", asic->node[asic->port[i].node].ns.path, asic->port[i].name);
	if (fclose(file) || rename(next, path)) {
		snprintf(error, ERROR_SIZE, "%s: %s", path, strerror(errno));
		return -1;
	}
	return 0;
}

/* What a dead asicd has left on one port: closed gates, and where all is to go, its queues. */
static void release_port(const struct namespace *ns, struct port *port, int clsact, int strip)
{
	int64_t packets, bytes;

	if (port_find(ns, port))
		return;
	if (clsact)
		port_unclsact(ns, port);
	if (strip && !port_waiting(ns, port, QUEUES - 1, &packets, &bytes)) {
		port->structured = 1;
		port->gso_max_segs = 65535;
		port_unstructure(ns, port);
		return;
	}
	for (unsigned q = 0; q < QUEUES; q++)
		port_gate(ns, port, q, 1);
	port_kick(ns, port);
}

/* Open every gate of a lab whose asicd is dead, by the list it has left; `strip`: take its queues off too. */
void asic_release(const char *folder, int strip)
{
	struct namespace ns = {.fd = -1, .route = -1, .ask = -1, .packet = -1, .kick = -1};
	char path[300], line[400], error[ERROR_SIZE];
	struct interfaces interfaces = NO_INTERFACES;
	unsigned number = 0;
	FILE *file;
	int clsact;

	policy_release(folder);
	snprintf(path, sizeof(path), "%s/ports", folder);
	file = fopen(path, "re");
	if (!file)
		return;
	clsact = fgets(line, sizeof(line), file) && line[0] == '1';
	while (fgets(line, sizeof(line), file)) {
		struct port port = {};
		char where[256];

		number++;
		if (sscanf(line, "%255s %15s", where, port.name) != 2)
			continue;
		if (ns.fd < 0 || strcmp(where, ns.path)) {
			namespace_close(&ns);
			interfaces_close(&interfaces);
			if (namespace_open(&ns, where, error))
				continue;
			interfaces = interfaces_open();
		}
		release_port(&ns, &port, clsact, strip);
		port_steer(&interfaces, port.name, port_processor(number), -1);
	}
	namespace_close(&ns);
	interfaces_close(&interfaces);
	fclose(file);
	/* The programs are gone: nobody may take them to be there by what the list says. */
	file = clsact ? fopen(path, "r+e") : NULL;
	if (file) {
		fputc('0', file);
		fclose(file);
	}
}
