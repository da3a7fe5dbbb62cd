/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's lines: words parted by blanks, `name=value`. Pure; fuzzed in tests. */
#ifndef RAILBED_COMMAND_H
#define RAILBED_COMMAND_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 40

struct command {
	char *verb;
	int count;
	char *names[WORDS_MAX];
	char *values[WORDS_MAX];
};

/* Cut a line in place. Returns 0, or -1 for a line that is none. */
static inline int command_parse(char *line, struct command *command)
{
	char *save = NULL, *word;

	memset(command, 0, sizeof(*command));
	command->verb = strtok_r(line, " \n", &save);
	if (!command->verb)
		return -1;
	while ((word = strtok_r(NULL, " \n", &save))) {
		char *is = strchr(word, '=');

		if (!is || is == word || command->count == WORDS_MAX)
			return -1;
		*is = 0;
		command->names[command->count] = word;
		command->values[command->count++] = is + 1;
	}
	return 0;
}

static inline const char *command_text(const struct command *command, const char *name)
{
	for (int i = 0; i < command->count; i++)
		if (!strcmp(command->names[i], name))
			return command->values[i];
	return NULL;
}

/* A number from 0 to `most`. Returns 0, or -1 when it is missing or none. */
static inline int command_number(const struct command *command, const char *name, uint64_t most, uint64_t *number)
{
	const char *text = command_text(command, name);
	char *end;

	if (!text || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno || *end || *number > most ? -1 : 0;
}

/* Bytes written as hexadecimal digits, exactly `size` of them. */
static inline int command_bytes(const struct command *command, const char *name, void *to, size_t size)
{
	const char *text = command_text(command, name);
	uint8_t *at = to;

	if (!text || strlen(text) != 2 * size)
		return -1;
	for (size_t i = 0; i < 2 * size; i++) {
		char c = text[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return -1;
		at[i / 2] = i % 2 ? at[i / 2] | digit : digit << 4;
	}
	return 0;
}

#endif
