/* SPDX-License-Identifier: MIT */
/* Picks the command, nothing else. */
#include <stdio.h>

int main(void)
{
	fprintf(stderr, "stagerun: not yet a command\n");
	return 2;
}
