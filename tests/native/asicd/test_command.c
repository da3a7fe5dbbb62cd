// SPDX-License-Identifier: Apache-2.0
/* The control socket's lines: what they say, and 200 000 that say nothing (a fixed seed; the sanitizers watch). */
#undef NDEBUG
#include <assert.h>
#include <stdio.h>

#include "asicd/command.h"

#define LINES	200000

static struct command parse(char *line)
{
	struct command command;

	assert(!command_parse(line, &command));
	return command;
}

static int refused(const char *text)
{
	struct command command;
	char line[4096];

	snprintf(line, sizeof(line), "%s", text);
	return command_parse(line, &command);
}

static void test_words(void)
{
	char line[] = "  port  at=1 name=eth1=x empty=\n";
	struct command command = parse(line);

	assert(!strcmp(command.verb, "port"));
	assert(command.count == 3);
	assert(!strcmp(command_text(&command, "at"), "1"));
	assert(!strcmp(command_text(&command, "name"), "eth1=x"));
	assert(!*command_text(&command, "empty"));
	assert(!command_text(&command, "nam"));
	assert(!command_text(&command, "names"));
}

static void test_what_is_no_line(void)
{
	assert(refused(""));
	assert(refused("\n"));
	assert(refused("   \n"));
	assert(refused("port at\n"));
	assert(refused("port =1\n"));
	assert(refused("port at=1 and more\n"));
	assert(!refused("stop"));
}

static void test_no_more_words_than_there_is_room(void)
{
	char line[4096] = "verb";

	for (int i = 0; i < WORDS_MAX; i++)
		strcat(line, " a=1");
	assert(!refused(line));
	strcat(line, " a=1");
	assert(refused(line));
}

static void test_numbers(void)
{
	static const struct {
		const char *text;
		uint64_t most;
		int failed;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0, 0},
		{"1", 0, -1, 0},
		{"4294967296", 1ULL << 32, 0, 1ULL << 32},
		{"4294967297", 1ULL << 32, -1, 0},
		{"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, -1, 0},
		{"99999999999999999999999999", UINT64_MAX, -1, 0},
		{"010", 100, 0, 10},
		{"", 9, -1, 0},
		{"-1", UINT64_MAX, -1, 0},
		{"+1", 9, -1, 0},
		{"0x1", 9, -1, 0},
		{"1.0", 9, -1, 0},
		{"1\t", 9, -1, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char line[64];
		struct command command;
		uint64_t number;

		snprintf(line, sizeof(line), "verb n=%s", cases[i].text);
		command = parse(line);
		assert(command_number(&command, "n", cases[i].most, &number) == cases[i].failed);
		assert(cases[i].failed || number == cases[i].value);
		assert(command_number(&command, "m", UINT64_MAX, &number));
	}
}

static void test_bytes(void)
{
	char right[] = "verb b=00ff1a", odd[] = "verb b=00ff1", high[] = "verb b=00FF1A", none[] = "verb b=00fg1a";
	uint8_t bytes[4] = {9, 9, 9, 9};
	struct command command = parse(right);

	assert(!command_bytes(&command, "b", bytes, 3));
	assert(!bytes[0] && bytes[1] == 0xff && bytes[2] == 0x1a && bytes[3] == 9);
	assert(command_bytes(&command, "b", bytes, 2));
	assert(command_bytes(&command, "b", bytes, 4));
	assert(command_bytes(&command, "c", bytes, 3));
	command = parse(odd);
	assert(command_bytes(&command, "b", bytes, 3));
	command = parse(high);
	assert(command_bytes(&command, "b", bytes, 3));
	command = parse(none);
	assert(command_bytes(&command, "b", bytes, 3));
}

static uint64_t draw(void)
{
	static uint64_t state = 1;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static void test_lines_of_nonsense(void)
{
	/* Signs that mean something come often. The buffer ends where the line ends: one byte too far is seen. */
	static const char signs[] = "  \n==aabn019fg\t\x80\xff-+x";
	unsigned taken = 0;

	for (int i = 0; i < LINES; i++) {
		size_t length = draw() % 100;
		char *line = malloc(length + 1);
		struct command command;

		assert(line);
		for (size_t at = 0; at < length; at++)
			line[at] = draw() % 4 ? signs[draw() % (sizeof(signs) - 1)] : (char)(draw() % 255 + 1);
		line[length] = 0;
		if (!command_parse(line, &command)) {
			uint64_t number;
			uint8_t bytes[4];

			taken++;
			assert(*command.verb && command.count >= 0 && command.count <= WORDS_MAX);
			for (int w = 0; w < command.count; w++) {
				assert(*command.names[w] && !strchr(command.names[w], '='));
				assert(command_text(&command, command.names[w]));
				if (!command_number(&command, command.names[w], 99, &number))
					assert(number <= 99);
				for (size_t size = 0; size <= sizeof(bytes); size++)
					if (!command_bytes(&command, command.names[w], bytes, size))
						assert(strlen(command_text(&command, command.names[w])) == 2 * size);
			}
		}
		free(line);
	}
	/* Negative control: the nonsense is not all refused at once, nor all taken. */
	assert(taken > LINES / 100 && taken < LINES / 2);
}

int main(void)
{
	test_words();
	test_what_is_no_line();
	test_no_more_words_than_there_is_room();
	test_numbers();
	test_bytes();
	test_lines_of_nonsense();
	return 0;
}
