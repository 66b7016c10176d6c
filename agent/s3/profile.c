/* SPDX-License-Identifier: MIT */
/* Reads the shared files. AWS has its own ini: values that hold '#' and ';', long lines, and one level of
 * nesting by indentation; so it is read here and not by inih. */
#include "profile.h"
#include "defer.h"
#include "text.h"
#include <string.h>

struct entry {
	bool credentials; /* of that file; else of the config file */
	char *section;    /* as profiles are called there; "services x" and others as they stand */
	char *key;        /* "": the section itself; "s3.endpoint_url" */
	char *value;
};

struct shared_files {
	char *credentials_path, *config_path; /* NULL: no home directory */
	struct entry *v;
	size_t n, cap;
};

struct file {
	struct shared_files *all;
	const char *path;
	bool credentials;
	unsigned line;
	char *section; /* NULL before the first */
	char *parent;  /* the key above, whose value is on the lines below; NULL: it has one */
	struct error *err;
};

const char *aws_variable(char *const *environment, const char *name)
{
	size_t len = strlen(name);

	for (; environment != NULL && *environment != NULL; environment++)
		if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
			return (*environment)[len + 1] != '\0' ? *environment + len + 1 : NULL;
	return NULL;
}

static void add(struct file *f, const char *key, const char *value)
{
	struct shared_files *all = f->all;

	if (all->n == all->cap) {
		all->cap = all->cap * 2 + 16;
		all->v = reallocarray(all->v, all->cap, sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n++] = (struct entry){.credentials = f->credentials,
		.section = copy_text(f->section),
		.key = copy_text(key),
		.value = copy_text(value)};
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	for (len = strlen(s); len > 0 && strchr(" \t\r\n", s[len - 1]) != NULL; len--)
		s[len - 1] = '\0';
	return s;
}

static char *unquote(char *s)
{
	size_t len = strlen(s);

	if (len < 2 || (*s != '"' && *s != '\'') || s[len - 1] != *s)
		return s;
	s[len - 1] = '\0';
	return s + 1;
}

/* The config file says "[profile x]", but for the default one. */
static void enter_section(struct file *f, char *name)
{
	size_t word = strcspn(name, " \t");

	if (!f->credentials && strncmp(name, "profile", word) == 0 && name[word] != '\0')
		name = trim(name + word);
	else if (!f->credentials && name[word] == '\0' && strcmp(name, "default") != 0)
		name = ""; /* a profile may not be spelt so here */
	free(f->section);
	f->section = copy_text(unquote(name));
	free(f->parent);
	f->parent = NULL;
	add(f, "", "");
}

/* The shell may want what looks like a comment. */
static void cut_comment(const char *key, char *value)
{
	if (strcmp(key, "credential_process") == 0)
		return;
	for (char *c = value; *c != '\0'; c++)
		if ((*c == '#' || *c == ';') && c > value && strchr(" \t", c[-1]) != NULL)
			*c = '\0';
	trim(value);
}

static void take_pair(struct file *f, char *key, char *value, bool indented)
{
	bool nested = indented && f->parent != NULL;
	_free_ char *full = NULL;

	cut_comment(key, value);
	full = nested ? format_text("%s.%s", f->parent, key) : copy_text(key);
	add(f, full, value);
	if (nested)
		return;
	free(f->parent);
	f->parent = *value == '\0' ? copy_text(key) : NULL;
}

static int take_line(struct file *f, char *line)
{
	bool indented = *line == ' ' || *line == '\t';
	char *s = trim(line), *equals = strchr(s, '='), *bracket = strchr(s, ']');

	if (*s == '\0' || *s == '#' || *s == ';')
		return 0;
	if (*s == '[' && bracket != NULL) {
		*bracket = '\0';
		enter_section(f, trim(s + 1));
		return 0;
	}
	if (equals != NULL && f->section != NULL) {
		*equals = '\0';
		take_pair(f, trim(s), trim(equals + 1), indented);
		return 0;
	}
	if (indented)
		return 0; /* continues a value that is none of ours */
	return error_set(f->err, -ERR_CONFIG,
		"%s:%u: neither [profile] nor key = value; correct the line", f->path, f->line);
}

static int read_file(struct shared_files *all, bool credentials, struct error *err)
{
	const char *path = credentials ? all->credentials_path : all->config_path;
	_fclose_ FILE *in = path != NULL ? fopen(path, "re") : NULL;
	struct file f = {.all = all, .path = path, .credentials = credentials, .err = err};
	_free_ char *line = NULL;
	size_t cap = 0;
	int code = 0;

	if (in == NULL && path != NULL && errno != ENOENT && errno != ENOTDIR)
		return error_set(err, -errno, "read '%s': %m", path);
	while (code == 0 && in != NULL && getline(&line, &cap, in) >= 0) {
		f.line++;
		code = take_line(&f, line);
	}
	if (code == 0 && in != NULL && ferror(in))
		code = error_set(err, -EIO, "read '%s': %m", path);
	if (line != NULL)
		explicit_bzero(line, cap);
	free(f.section);
	free(f.parent);
	return code;
}

static char *path_of(char *const *environment, const char *variable, const char *name)
{
	const char *chosen = aws_variable(environment, variable);
	const char *home = aws_variable(environment, "HOME");

	if (chosen != NULL && strncmp(chosen, "~/", 2) == 0 && home != NULL)
		return format_text("%s%s", home, chosen + 1);
	if (chosen != NULL)
		return copy_text(chosen);
	return home != NULL ? format_text("%s/.aws/%s", home, name) : NULL;
}

int shared_files_read(char *const *environment, struct shared_files **ret, struct error *err)
{
	struct shared_files *f = zalloc(sizeof(*f));
	int code;

	f->credentials_path = path_of(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
	f->config_path = path_of(environment, "AWS_CONFIG_FILE", "config");
	code = read_file(f, false, err);
	if (code == 0)
		code = read_file(f, true, err);
	if (code < 0) {
		shared_files_free(f);
		return code;
	}
	*ret = f;
	return 0;
}

void shared_files_free(struct shared_files *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->n; i++) {
		explicit_bzero(f->v[i].value, strlen(f->v[i].value));
		free(f->v[i].section);
		free(f->v[i].key);
		free(f->v[i].value);
	}
	free(f->v);
	free(f->credentials_path);
	free(f->config_path);
	free(f);
}

/* The last one wins, and what stands in the credentials file comes last. */
static const struct entry *find(const struct shared_files *f, const char *section, const char *key)
{
	for (size_t i = f->n; i-- > 0;)
		if (strcmp(f->v[i].section, section) == 0 && strcmp(f->v[i].key, key) == 0)
			return &f->v[i];
	return NULL;
}

bool shared_files_have(const struct shared_files *f, const char *profile)
{
	return find(f, profile, "") != NULL;
}

const char *shared_files_value(const struct shared_files *f, const char *profile, const char *key)
{
	const struct entry *e = find(f, profile, key);

	return e != NULL && *e->value != '\0' ? e->value : NULL;
}

const char *shared_files_where(const struct shared_files *f, const char *profile, const char *key)
{
	const struct entry *e = find(f, profile, key);

	if (e == NULL)
		e = find(f, profile, "");
	return e != NULL && e->credentials ? f->credentials_path : f->config_path;
}

char *shared_files_names(const struct shared_files *f)
{
	if (f->credentials_path == NULL || f->config_path == NULL)
		return format_text("%s%s", f->credentials_path != NULL ? f->credentials_path : "",
			f->config_path != NULL ? f->config_path : "no file (HOME is not set)");
	return format_text("%s and %s", f->credentials_path, f->config_path);
}

const char *profile_name(char *const *environment, const char *chosen)
{
	if (chosen == NULL || *chosen == '\0')
		chosen = aws_variable(environment, "AWS_PROFILE");
	if (chosen == NULL)
		chosen = aws_variable(environment, "AWS_DEFAULT_PROFILE");
	return chosen != NULL ? chosen : "default";
}

char *profile_region(char *const *environment, const char *chosen)
{
	struct shared_files *f;
	char *region;

	if (shared_files_read(environment, &f, NULL) < 0)
		return NULL;
	region = copy_text(shared_files_value(f, profile_name(environment, chosen), "region"));
	shared_files_free(f);
	return region;
}

char *profile_endpoint(char *const *environment, const char *chosen)
{
	const char *profile = profile_name(environment, chosen);
	struct shared_files *f;
	const char *services, *url = NULL;
	char *copy;

	if (shared_files_read(environment, &f, NULL) < 0)
		return NULL;
	services = shared_files_value(f, profile, "services");
	if (services != NULL) {
		_free_ char *section = format_text("services %s", services);

		url = shared_files_value(f, section, "s3.endpoint_url");
	}
	if (url == NULL)
		url = shared_files_value(f, profile, "s3.endpoint_url");
	if (url == NULL)
		url = shared_files_value(f, profile, "endpoint_url");
	copy = copy_text(url);
	shared_files_free(f);
	return copy;
}
