/* SPDX-License-Identifier: MIT */
/* What the package managers really print when they fail, shortened. */
#include "../../hooks/hooks_private.h"
#include "defer.h"
#include "test.h"
#include "text.h"
#include <string.h>

static void add_all(struct complaint *c, const char *output)
{
	while (*output != '\0') {
		size_t len = strcspn(output, "\n");

		install_complaint_add(c, output, len);
		output += len + (output[len] == '\n');
	}
}

static void check_text(const char *expected, const char *output)
{
	struct complaint c = {0};

	add_all(&c, output);
	assert_string_equal(expected, install_complaint_text(&c));
	install_complaint_done(&c);
}

TEST(complaint_of_pip_is_its_last_error_without_the_label)
{
	check_text("No matching distribution found for nosuchpkg==9",
		"Looking in links: /x\n"
		"ERROR: Could not find a version that satisfies the requirement nosuchpkg==9\n"
		"ERROR: No matching distribution found for nosuchpkg==9\n"
		"\n[notice] A new release of pip is available\n");
	check_text(
		"Could not install packages due to an OSError: [Errno 28] No space left on device",
		"ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
		"device\n\nhint: see above\n");
}

TEST(complaint_of_pip_names_the_package_that_was_not_found)
{
	struct complaint c = {0};

	add_all(&c, "ERROR: No matching distribution found for nosuchpkg==9 (from x)\n");
	assert_string_equal("nosuchpkg==9", c.package);
	install_complaint_done(&c);
}

#define RETRY(left, why) \
	"WARNING: Retrying (Retry(total=" left ", connect=None, read=None, redirect=None, " \
	"status=None)) after connection broken by " why ": /simple/numpy/\n"
#define UNKNOWN_HOST \
	"'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: " \
	"Failed to establish a new connection: [Errno -2] Name or service not known')'"
#define NOT_FOUND \
	"ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)\n" \
	"ERROR: No matching distribution found for numpy\n"

static void check_network(const char *expected, const char *output)
{
	struct complaint c = {0};

	add_all(&c, output);
	if (expected == NULL)
		assert_null(install_complaint_network(&c));
	else
		assert_string_equal(expected, install_complaint_network(&c));
	install_complaint_done(&c);
}

TEST(complaint_of_pip_without_a_network_is_its_first_cause)
{
	check_network("Failed to establish a new connection: [Errno -2] Name or service not known",
		RETRY("4", UNKNOWN_HOST) RETRY("0", UNKNOWN_HOST) NOT_FOUND);
	check_network(
		"ReadTimeoutError(\"HTTPSConnectionPool(host='pypi.org', port=443): Read timed out. (read timeout=15)",
		RETRY("0",
			"'ReadTimeoutError(\"HTTPSConnectionPool(host='pypi.org', port=443): Read "
			"timed out. (read timeout=15)\")'") NOT_FOUND);
}

TEST(complaint_of_pip_is_not_the_network_when_a_retry_reached_it)
{
	check_network(NULL, RETRY("4", UNKNOWN_HOST) NOT_FOUND);
	check_network(NULL, RETRY("0", UNKNOWN_HOST) "ERROR: something else\n");
	check_network(NULL, NOT_FOUND);
}

TEST(complaint_of_pip_about_a_managed_environment_is_recognised)
{
	struct complaint c = {0};

	add_all(&c, "error: externally-managed-environment\n\n"
		    "\xc3\x97 This environment is externally managed\n");
	assert_true(c.is_managed);
	install_complaint_done(&c);
}

TEST(complaint_of_conda_has_the_line_that_its_colon_points_to)
{
	check_text("PackagesNotFoundError: The following packages are not available: - nosuchpkg=9",
		"Solving environment: failed\n\nPackagesNotFoundError: The following packages are "
		"not available:\n\n  - nosuchpkg=9\n\nCurrent channels:\n\n  - defaults\n");
	check_text("ResolvePackageNotFound: - nosuchpkg=9",
		"Collecting package metadata: done\n\nResolvePackageNotFound: \n  - nosuchpkg=9\n");
	check_text("CondaEnvException: Pip failed",
		"Pip subprocess error:\nERROR: No matching distribution found for x\n"
		"\nCondaEnvException: Pip failed\n\n");
}

TEST(complaint_of_mamba_is_its_error_line)
{
	check_text("error    libmamba Could not solve for environment specs",
		"error    libmamba Could not solve for environment specs\n"
		"    The following package could not be installed\n");
	check_text("critical libmamba Could not solve for environment specs",
		"error    libmamba No entries for nosuchpkg\n"
		"critical libmamba Could not solve for environment specs\n");
}

TEST(complaint_without_an_error_is_the_last_line)
{
	check_text("/usr/bin/python3: No module named pip",
		"\n/usr/bin/python3: No module named pip \r\n\n");
	check_text("no errors: none", "no errors: none");
}

TEST(complaint_of_nothing_is_nothing)
{
	struct complaint c = {0};

	add_all(&c, "\n  \n");
	assert_null(install_complaint_text(&c));
	install_complaint_done(&c);
}

TEST(complaint_keeps_no_endless_line)
{
	struct complaint c = {0};
	char line[4000];

	memset(line, 'x', sizeof(line));
	memcpy(line, "ERROR: ", 7);
	install_complaint_add(&c, line, sizeof(line));
	assert_int_equal(400, strlen(install_complaint_text(&c)));
	install_complaint_done(&c);
}
