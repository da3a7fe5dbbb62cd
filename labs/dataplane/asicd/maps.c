// SPDX-License-Identifier: Apache-2.0
/* The maps of a lab, and a copy of the two programs for each node. */
#include <bpf/btf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "asicd.h"

struct sized {
	const char *name;
	unsigned entries;
	size_t value;
	void **seen;	/* where it is mapped, NULL for maps that cannot be */
};

static void sizes(struct asic *asic, struct sized *all)
{
	unsigned ports = asic->port_count + 1;
	struct sized wanted[] = {
		{"ports", ports, sizeof(struct port_state), (void **)&asic->ports},
		{"profiles", asic->profile_count, sizeof(struct port_profile), (void **)&asic->profiles},
		{"queues", ports * QUEUES, sizeof(struct queue_state), (void **)&asic->queues},
		{"groups", ports * QUEUES, sizeof(struct pg_state), NULL},
		{"pools", asic->pool_count, sizeof(struct pool_state), (void **)&asic->pools},
		{"matrix", asic->matrix_count, sizeof(__s64), (void **)&asic->matrix},
		{"impairments", ports, sizeof(struct impairment), (void **)&asic->impairments},
		{"receivers", ports, sizeof(struct receiver), (void **)&asic->receivers},
		{"asicd", 1, sizeof(struct asicd_state), (void **)&asic->state},
		{NULL, 0, 0, NULL},
	};

	memcpy(all, wanted, sizeof(wanted));
}

static struct bpf_object *object_open(struct asic *asic, const char *name, char *error)
{
	char path[512], pins[512];
	LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = pins);
	struct bpf_object *object;
	struct sized all[10];

	snprintf(path, sizeof(path), "%s/%s.bpf.o", asic->objects, name);
	snprintf(pins, sizeof(pins), "%s/maps", asic->folder);
	object = bpf_object__open_file(path, &options);
	if (!object) {
		snprintf(error, ERROR_SIZE, "%s: %s", path, strerror(errno));
		return NULL;
	}
	sizes(asic, all);
	for (struct sized *map = all; map->name; map++) {
		struct bpf_map *found = bpf_object__find_map_by_name(object, map->name);

		if (found)
			bpf_map__set_max_entries(found, map->entries);
	}
	return object;
}

/* Where a constant of the program stands before it is loaded. */
static void *constant(struct bpf_object *object, const char *name, size_t size)
{
	const struct btf *btf = bpf_object__btf(object);
	struct bpf_map *map;
	int section = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -1;

	if (section < 0)
		return NULL;
	bpf_object__for_each_map(map, object) {
		const struct btf_type *type = btf__type_by_id(btf, section);
		const struct btf_var_secinfo *var = btf_var_secinfos(type);
		const char *called = bpf_map__name(map);
		size_t all;
		char *data;

		if (strlen(called) < 7 || strcmp(called + strlen(called) - 7, ".rodata"))
			continue;
		data = (char *)bpf_map__initial_value(map, &all); /* const in older libbpf */
		for (int i = 0; data && i < btf_vlen(type); i++, var++)
			if (!strcmp(btf__name_by_offset(btf, btf__type_by_id(btf, var->type)->name_off), name) &&
			    var->size == size && var->offset + size <= all)
				return data + var->offset;
	}
	return NULL;
}

static int program_load(struct asic *asic, const char *name, struct bpf_object **object, unsigned first_ifindex,
			const uint16_t *ports, char *error)
{
	size_t span = sizeof(uint16_t) * IFINDEXES;
	struct bpf_program *program;
	void *first, *mark, *table;
	int failed;

	*object = object_open(asic, name, error);
	if (!*object)
		return -1;
	first = constant(*object, "first_ifindex", 4);
	mark = constant(*object, "stamp_mark", 4);
	table = constant(*object, "port_of_ifindex", span);
	if (first && mark && table) {
		memcpy(first, &first_ifindex, 4);
		memcpy(mark, &asic->stamp, 4);
		if (ports)
			memcpy(table, ports, span);
	}
	failed = bpf_object__load(*object);
	program = failed ? NULL : bpf_object__next_program(*object, NULL);
	if (!program) {
		snprintf(error, ERROR_SIZE, "%s.bpf.o: the kernel refuses it: %s", name, strerror(-failed));
		bpf_object__close(*object);
		*object = NULL;
		return -1;
	}
	return bpf_program__fd(program);
}

int node_load(struct asic *asic, struct node *node, unsigned first_ifindex, const uint16_t *ports, char *error)
{
	node->ingress_fd = program_load(asic, "ingress", &node->ingress, first_ifindex, ports, error);
	if (node->ingress_fd < 0)
		return -1;
	node->egress_fd = program_load(asic, "egress", &node->egress, first_ifindex, ports, error);
	if (node->egress_fd < 0) {
		node_unload(node);
		return -1;
	}
	return 0;
}

void node_unload(struct node *node)
{
	bpf_object__close(node->ingress);
	bpf_object__close(node->egress);
	node->ingress = node->egress = NULL;
	node->ingress_fd = node->egress_fd = -1;
}

static int map_open(struct asic *asic, const char *name, char *error)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/maps/%s", asic->folder, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		snprintf(error, ERROR_SIZE, "map %s: %s", path, strerror(errno));
	return fd;
}

/* Make the maps, by loading the one program that touches them all, and see them. */
int maps_open(struct asic *asic, char *error)
{
	long page = sysconf(_SC_PAGESIZE);
	struct sized all[10];

	asic->repair_fd = program_load(asic, "repair", &asic->repair, 0, NULL, error);
	if (asic->repair_fd < 0)
		return -1;
	sizes(asic, all);
	for (struct sized *map = all; map->name; map++) {
		int fd = map_open(asic, map->name, error);
		size_t length = (map->entries * ((map->value + 7) & ~7UL) + page - 1) & -page;

		if (fd < 0)
			return -1;
		if (!map->seen) {
			asic->groups_fd = fd;
			continue;
		}
		*map->seen = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
		if (*map->seen == MAP_FAILED) {
			snprintf(error, ERROR_SIZE, "map %s: %s", map->name, strerror(errno));
			return -1;
		}
	}
	asic->events_fd = map_open(asic, "events", error);
	return asic->events_fd < 0 ? -1 : 0;
}
