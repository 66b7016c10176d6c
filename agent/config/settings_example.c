/* SPDX-License-Identifier: MIT */
/* agent.ini.example, from the table. */
#include "defer.h"
#include "settings_table.h"
#include <string.h>

static const char introduction[] =
	"# The settings of stagerun, each with its default. Copy this file to\n"
	"# /etc/stagerun/agent.ini and take the '#' away from what you change.\n"
	"#\n"
	"# Built-in default < this file < environment < config.yml < command line. A setting's\n"
	"# variable is STAGERUN_<SECTION>_<KEY>, such as STAGERUN_NETWORK_CONNECTIONS.\n"
	"# A line that begins with '#' or ';' is a comment; a value goes to the end of its line.\n";

static void add_row(struct text *t, const struct setting *row)
{
	_free_ char *type = setting_describe_type(row);

	text_addf(t, "\n# %s\n# Value: %s.", row->help, type);
	if (row->short_env != NULL)
		text_addf(t, " Also $%s.", row->short_env);
	text_addf(t, "\n#%s =%s%s\n", row->key, *row->initial != '\0' ? " " : "", row->initial);
}

char *settings_example(void)
{
	const char *section = "";
	struct text t = {0};

	text_add(&t, introduction);
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (strcmp(section, row->section) != 0)
			text_addf(&t, "\n[%s]\n", row->section);
		section = row->section;
		add_row(&t, row);
	}
	return text_take(&t);
}
