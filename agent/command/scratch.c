/* SPDX-License-Identifier: MIT */
#include "scratch.h"
#include <errno.h>
#include <sys/stat.h>

int make_scratch(const struct runfile *f, const struct inherited *in, struct error *err)
{
	for (size_t i = 0; f != NULL && i < f->n_scratch; i++) {
		if (mkdir(f->scratch[i].mount_path, 0777 & ~in->umask) < 0 && errno != EEXIST)
			return error_set(err, -errno,
				"%s:%u: cannot make the scratch directory %s: %m; mount a volume "
				"there",
				f->path, f->scratch[i].line, f->scratch[i].mount_path);
	}
	return 0;
}
