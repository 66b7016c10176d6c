/* SPDX-License-Identifier: MIT */
/* Finds the file of CA certificates, and checks the configured netrc file. libcurl knows one path,
 * that of the system it was built for, but the agent runs in any image. Any thread. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static const char *const system_files[] = {
	"/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Arch */
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Red Hat, Fedora, Amazon */
	"/etc/pki/tls/certs/ca-bundle.crt",                  /* older Red Hat */
	"/etc/ssl/ca-bundle.pem",                            /* SUSE */
	"/etc/ssl/cert.pem",                                 /* Alpine */
};

/* A relocated copy of the agent has its own file beside it, for images that have none. The path
 * comes from what the kernel executed (for the bundle: its loader), since /proc may not be
 * mounted. */
static char *beside_executable(void)
{
	const char *executed = (const char *)getauxval(AT_EXECFN);
	char exe[PATH_MAX];
	char *slash;

	if (executed == NULL || realpath(executed, exe) == NULL)
		return NULL;
	slash = strrchr(exe, '/');
	*slash = '\0';
	return text_format("%s/../etc/ca-certificates.crt", exe);
}

int trust_find(const char *configured, char **ret_path, struct error *err)
{
	const char *from_env =
		getenv("SSL_CERT_FILE"); /* NOLINT(concurrency-mt-unsafe): at start */
	_free_ char *beside = beside_executable();

	if (configured != NULL && configured[0] != '\0') {
		if (access(configured, R_OK) < 0)
			return error_set(err, -ERR_CONFIG,
				"ca_file '%s' cannot be read: %m; it must be a PEM file of CA certificates",
				configured);
		*ret_path = text_copy(configured);
		return 0;
	}
	if (from_env != NULL && access(from_env, R_OK) == 0) {
		*ret_path = text_copy(from_env);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(system_files); i++) {
		if (access(system_files[i], R_OK) == 0) {
			*ret_path = text_copy(system_files[i]);
			return 0;
		}
	}
	*ret_path = beside != NULL && access(beside, R_OK) == 0 ? take_ptr(&beside) : NULL;
	return 0;
}

int trust_check_netrc(const char *configured, struct error *err)
{
	if (configured == NULL || access(configured, R_OK) == 0)
		return 0;
	return error_set(err, -ERR_CONFIG,
		"netrc_file '%s' cannot be read: %m; make it readable for user %u, or leave it out",
		configured, (unsigned)geteuid());
}
