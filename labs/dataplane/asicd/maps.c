// SPDX-License-Identifier: Apache-2.0
/* The maps of a lab, and a copy of the two programs for each node: they know their ports by constants of their own. */
#include <bpf/btf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "asicd.h"

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

static void resize(struct bpf_object *object, const struct sized *maps)
{
	for (const struct sized *map = maps; map && map->name; map++) {
		struct bpf_map *found = bpf_object__find_map_by_name(object, map->name);

		if (found)
			bpf_map__set_max_entries(found, map->entries);
	}
}

static struct bpf_object *object_open(struct asic *asic, const char *name, const struct sized *more, char *error)
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
	resize(object, all);
	resize(object, more);
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

/* Load an object's one program; `more`: the sizes of its own maps. Returns its descriptor, or -1. */
int program_load(struct asic *asic, const char *name, const struct sized *more, struct bpf_object **object, char *error)
{
	struct bpf_program *program;
	void *mark;
	int failed;

	*object = object_open(asic, name, more, error);
	if (!*object)
		return -1;
	mark = constant(*object, "stamp_mark", 4);
	if (!mark) {
		snprintf(error, ERROR_SIZE, "%s.bpf.o has no stamp_mark", name);
		bpf_object__close(*object);
		*object = NULL;
		return -1;
	}
	memcpy(mark, &asic->stamp, 4);
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

static struct bpf_map *constants(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
		if (strlen(bpf_map__name(map)) > 7 && !strcmp(bpf_map__name(map) + strlen(bpf_map__name(map)) - 7, ".rodata"))
			return map;
	return NULL;
}

/* A node's own constants, in a map of their own. Returns its descriptor, or -1. */
static int constants_copy(struct bpf_object *object, unsigned first_ifindex, const uint16_t *ports)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_RDONLY_PROG);
	struct bpf_map *map = constants(object);
	char *was, *first, *table, *copy;
	uint32_t zero = 0;
	size_t size;
	int fd;

	was = map ? (char *)bpf_map__initial_value(map, &size) : NULL;
	first = constant(object, "first_ifindex", 4);
	table = constant(object, "port_of_ifindex", sizeof(*ports) * IFINDEXES);
	copy = was ? malloc(size) : NULL;
	if (!copy || !first || !table) {
		free(copy);
		errno = ENOMEM;
		return -1;
	}
	memcpy(copy, was, size);
	memcpy(copy + (first - was), &first_ifindex, 4);
	memcpy(copy + (table - was), ports, sizeof(*ports) * IFINDEXES);
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "railbed_node", 4, size, 1, &options);
	if (fd >= 0 && (bpf_map_update_elem(fd, &zero, copy, 0) || bpf_map_freeze(fd))) {
		close(fd);
		fd = -1;
	}
	free(copy);
	return fd;
}

/*
 * Load a program once more for one node: the instructions that libbpf has made, with the node's constants in place of
 * the first ones. Going through the object file again would take five times as long. Returns a descriptor, or -1.
 */
static int program_copy(struct bpf_object *object, unsigned first_ifindex, const uint16_t *ports)
{
	struct bpf_program *program = bpf_object__next_program(object, NULL);
	size_t count = bpf_program__insn_cnt(program);
	int was = bpf_map__fd(constants(object)), fd = -1;
	int own = constants_copy(object, first_ifindex, ports);
	struct bpf_insn *code = own < 0 ? NULL : malloc(count * sizeof(*code));

	if (code) {
		memcpy(code, bpf_program__insns(program), count * sizeof(*code));
		for (size_t i = 0; i < count; i++)
			if (code[i].code == (BPF_LD | BPF_IMM | BPF_DW) && code[i].src_reg == BPF_PSEUDO_MAP_VALUE &&
			    code[i].imm == was)
				code[i].imm = own;
		fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, bpf_program__name(program), "Dual BSD/GPL", code, count, NULL);
		free(code);
	}
	if (own >= 0)
		close(own);	/* the program holds it */
	return fd;
}

struct copying {
	struct bpf_object *object;
	unsigned first_ifindex;
	const uint16_t *ports;
	int fd, error;
};

static void *copying(void *argument)
{
	struct copying *copy = argument;

	copy->fd = program_copy(copy->object, copy->first_ifindex, copy->ports);
	copy->error = errno;
	return NULL;
}

/* Both programs at once: the verifier works on one processor each. */
int node_load(struct asic *asic, struct node *node, unsigned first_ifindex, const uint16_t *ports, char *error)
{
	struct copying ingress = {asic->ingress, first_ifindex, ports, -1, 0};
	struct copying egress = {asic->egress, first_ifindex, ports, -1, 0};
	pthread_t thread;
	int alone;

	node_unload(node);	/* our hold on older ones: what is attached stays */
	alone = pthread_create(&thread, NULL, copying, &ingress);
	copying(&egress);
	if (alone)
		copying(&ingress);
	else
		pthread_join(thread, NULL);
	node->ingress_fd = ingress.fd;
	node->egress_fd = egress.fd;
	if (ingress.fd >= 0 && egress.fd >= 0)
		return 0;
	snprintf(error, ERROR_SIZE, "%s: the kernel refuses a program: %s", node->ns.path,
		 strerror(ingress.fd < 0 ? ingress.error : egress.error));
	node_unload(node);
	return -1;
}

void node_unload(struct node *node)
{
	if (node->ingress_fd >= 0)
		close(node->ingress_fd);
	if (node->egress_fd >= 0)
		close(node->egress_fd);
	node->ingress_fd = node->egress_fd = -1;
}

int map_open(struct asic *asic, const char *name, char *error)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/maps/%s", asic->folder, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		snprintf(error, ERROR_SIZE, "map %s: %s", path, strerror(errno));
	return fd;
}

/* Map a map's values into our memory. */
int map_see(struct asic *asic, const struct sized *map, char *error)
{
	size_t length = map->entries * ((map->value + 7) & ~7UL), page = sysconf(_SC_PAGESIZE);
	int fd = map_open(asic, map->name, error);

	if (fd < 0)
		return -1;
	*map->seen = mmap(NULL, (length + page - 1) & -page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (*map->seen != MAP_FAILED)
		return 0;
	snprintf(error, ERROR_SIZE, "map %s: %s", map->name, strerror(errno));
	return -1;
}

/* Make the maps, by loading the one program that touches them all, and see them. */
int maps_open(struct asic *asic, char *error)
{
	struct sized all[10];

	asic->repair_fd = program_load(asic, "repair", NULL, &asic->repair, error);
	if (asic->repair_fd < 0 || program_load(asic, "ingress", NULL, &asic->ingress, error) < 0 ||
	    program_load(asic, "egress", NULL, &asic->egress, error) < 0)
		return -1;
	sizes(asic, all);
	for (struct sized *map = all; map->name; map++)
		if (map->seen && map_see(asic, map, error))
			return -1;
	asic->groups_fd = map_open(asic, "groups", error);
	asic->events_fd = map_open(asic, "events", error);
	return asic->groups_fd < 0 || asic->events_fd < 0 ? -1 : 0;
}
