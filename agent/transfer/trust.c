/* SPDX-License-Identifier: MIT */
/* Finds the file of certificate authorities. libcurl knows one path, of the system it was built
 * for; the agent runs in any image. Called once, at start. */
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

/* A relocated copy of the agent brings its own file, for images that have none. The kernel tells
 * what it executed (with the bundle: its loader); /proc need not be mounted. */
static char *beside_executable(void)
{
	const char *executed = (const char *)getauxval(AT_EXECFN);
	char exe[PATH_MAX];
	char *slash;

	if (executed == NULL || realpath(executed, exe) == NULL)
		return NULL;
	slash = strrchr(exe, '/');
	*slash = '\0';
	return format_text("%s/../etc/ca-certificates.crt", exe);
}

int trust_find(const char *configured, char **ret_path, struct error *err)
{
	const char *from_env =
		getenv("SSL_CERT_FILE"); /* NOLINT(concurrency-mt-unsafe): at start */
	_free_ char *beside = beside_executable();

	if (configured != NULL && configured[0] != '\0') {
		if (access(configured, R_OK) < 0)
			return error_set(err, -ERR_CONFIG,
				"ca_file '%s' cannot be read: %m; it must be a PEM file of CA "
				"certificates",
				configured);
		*ret_path = copy_text(configured);
		return 0;
	}
	if (from_env != NULL && access(from_env, R_OK) == 0) {
		*ret_path = copy_text(from_env);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(system_files); i++) {
		if (access(system_files[i], R_OK) == 0) {
			*ret_path = copy_text(system_files[i]);
			return 0;
		}
	}
	*ret_path = beside != NULL && access(beside, R_OK) == 0 ? take_ptr(&beside) : NULL;
	return 0;
}
