/* SPDX-License-Identifier: MIT */
/* `stagerun datastore get`: a stage like any other. */
#include "datastore_call.h"
#include "defer.h"

int datastore_command_get(struct datastore_call *c, struct error *err)
{
	struct stage_spec *spec = &c->request.fetch;
	struct datastore_target target;
	_free_ char *url = NULL;
	int code = datastore_target_parse(c->words.v[0], &target, err);

	if (code < 0)
		return code;
	url = target.version > 0 ? format_text("datastore:%s:%u", target.name, target.version)
				 : format_text("datastore:%s", target.name);
	free(target.name);
	stage_spec_add_source(spec, url, NULL);
	spec->to = copy_text(c->words.v[1]);
	spec->origin = copy_text("datastore get");
	code = agent_stage(&c->agent, spec, 1, err);
	c->logged = code < 0;
	return code;
}
