// SPDX-License-Identifier: Apache-2.0
/* The packet's layout, its pattern, and the plan's text. */
#undef NDEBUG
#include <assert.h>

#include "../packet.h"
#include "../plan.h"

static const struct raw_header header = {
	.flags = RAW_PATTERN, .length = 100, .flow = 0x01020304, .sequence = 0x1112131415161718, .sent_ns = 0x21,
};

static void test_the_layout_is_network_order(void)
{
	static const unsigned char wire[] = "RNIC\x02\x91\x00\x64\x01\x02\x03\x04\x11\x12\x13\x14\x15\x16\x17\x18"
					    "\x00\x00\x00\x00\x00\x00\x00\x21";
	struct raw_header out;

	raw_write(&out, &header);
	assert(sizeof(wire) - 1 == sizeof(out) && !memcmp(&out, wire, sizeof(out)));
}

static void test_what_is_written_is_read_and_nothing_else(void)
{
	unsigned char payload[100] = { 0 };
	struct raw_header back, *at = (struct raw_header *)payload;

	raw_write(at, &header);
	assert(raw_read(&back, payload, 100) && back.flow == header.flow && back.sequence == header.sequence);
	assert(back.flags == RAW_PATTERN && back.sent_ns == 0x21);
	assert(!raw_read(&back, payload, 99));
	assert(!raw_read(&back, payload, sizeof(*at) - 1));
	for (size_t bit = 0; bit < sizeof(*at) * 8; bit++) {
		payload[bit / 8] ^= 1 << bit % 8;
		assert(!raw_read(&back, payload, 100));
		payload[bit / 8] ^= 1 << bit % 8;
	}
	assert(raw_read(&back, payload, 100));
}

static void test_the_pattern_is_one_packets_own(void)
{
	unsigned char bytes[77];

	raw_pattern_fill(bytes, sizeof(bytes), 1, 2);
	assert(raw_pattern_holds(bytes, sizeof(bytes), 1, 2));
	assert(!raw_pattern_holds(bytes, sizeof(bytes), 1, 3) && !raw_pattern_holds(bytes, sizeof(bytes), 2, 2));
	for (size_t i = 0; i < sizeof(bytes); i++) {
		bytes[i] ^= 1;
		assert(!raw_pattern_holds(bytes, sizeof(bytes), 1, 2));
		bytes[i] ^= 1;
	}
	assert(raw_pattern_holds(bytes, 0, 9, 9));
}

static bool reads(const char *text, struct flow_spec *f, struct plan_error *e)
{
	char line[PLAN_LINE];

	snprintf(line, sizeof(line), "%s", text);
	return plan_read_flow(f, line, e);
}

static void test_a_flow_is_read(void)
{
	struct flow_spec f;
	struct plan_error e;

	assert(reads("flow 7 src=10.0.0.1 dst=10.0.0.2 sport=50000 dport=7000 count=5 bytes=4096 rate_bps=500000000 "
		     "dscp=26 ecn=2 burst=4 start_ms=3 skip=9 pattern=1 duration_ms=8 sndbuf=1000\n", &f, &e));
	assert(f.id == 7 && f.count == 5 && f.bytes == 4096 && f.rate_bps == 500000000 && f.dscp == 26 && f.ecn == 2);
	assert(f.burst == 4 && f.start_ms == 3 && f.skip == 9 && f.pattern && f.duration_ms == 8 && f.sndbuf == 1000);
	assert(ntohs(f.src.v4.sin_port) == 50000 && ntohs(f.dst.v4.sin_port) == 7000 && !address_is_v6(&f.src));
	assert(reads("flow 0 src=fd00::1 dst=fd00::2 sport=1 dport=65535", &f, &e));
	assert(address_is_v6(&f.dst) && ntohs(f.dst.v6.sin6_port) == 65535 && f.bytes == 1024 && f.burst == 1);
}

static void test_what_is_no_flow_is_refused_with_what_is_allowed(void)
{
	static const struct {
		const char *line, *said;
	} wrong[] = {
		{ "flaw 1", "a line is flaw" },
		{ "flow", "id is missing" },
		{ "flow x", "id is x" },
		{ "flow 4294967296", "id is 4294967296" },
		{ "flow -1", "id is -1" },
		{ "flow 1", "incomplete" },
		{ "flow 1 src=10.0.0.1 dst=10.0.0.2 sport=1", "incomplete" },
		{ "flow 1 src=10.0.0.1 dst=fd00::2 sport=1 dport=2", "one family" },
		{ "flow 1 src=10.0.0.300", "src is 10.0.0.300" },
		{ "flow 1 ecn=4", "ecn is 4; allowed: 0 to 3" },
		{ "flow 1 dscp=64", "dscp is 64; allowed: 0 to 63" },
		{ "flow 1 sport=0", "sport is 0; allowed: 1 to 65535" },
		{ "flow 1 bytes=27", "bytes is 27; allowed: 28 to 65507" },
		{ "flow 1 count=1x", "count is 1x" },
		{ "flow 1 count=", "count is ;" },
		{ "flow 1 count=99999999999999999999999", "count is 9999" },
		{ "flow 1 count", "KEY=VALUE" },
		{ "flow 1 colour=3", "a key is colour" },
		{ "flow 1 src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 skip=1", "skip is 1" },
	};
	struct flow_spec f;
	struct plan_error e;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert(!reads(wrong[i].line, &f, &e));
		if (!strstr(e.text, wrong[i].said)) {
			fprintf(stderr, "%s: %s\n", wrong[i].line, e.text);
			assert(!"the error says something else");
		}
	}
}

int main(void)
{
	test_the_layout_is_network_order();
	test_what_is_written_is_read_and_nothing_else();
	test_the_pattern_is_one_packets_own();
	test_a_flow_is_read();
	test_what_is_no_flow_is_refused_with_what_is_allowed();
	return 0;
}
