/* SPDX-License-Identifier: MIT */
/* A directory shown through FUSE with the latency of a network file system: each create and each flush
 * (the close) takes a millisecond more, as a round trip to an NFS or Lustre server would. Everything
 * else passes through at once. Requests are served by many threads, so what the caller has in flight
 * at once also waits at once; what the kernel does in order (creates in one directory) stays in order.
 * The kernel asks, not a preloaded library, so raw system calls feel it too.
 *
 *     slowfs BACKING MOUNTPOINT        in the foreground; SIGTERM unmounts and ends it */
#define FUSE_USE_VERSION  35
#define _FILE_OFFSET_BITS 64
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { LATENCY_NS = 1000000 };

static void round_trip(void)
{
	nanosleep(&(struct timespec){.tv_nsec = LATENCY_NS}, NULL);
}

static int backing(void)
{
	return (int)(intptr_t)fuse_get_context()->private_data;
}

/* The kernel has resolved the path and asks for one name at a time: no link is followed here. */
static const char *relative(const char *path)
{
	return path[1] == '\0' ? "." : path + 1;
}

static int answer(long result)
{
	return result < 0 ? -errno : 0;
}

static int on_getattr(const char *path, struct stat *ret_st, struct fuse_file_info *fi)
{
	if (fi != NULL)
		return answer(fstat((int)fi->fh, ret_st));
	return answer(fstatat(backing(), relative(path), ret_st, AT_SYMLINK_NOFOLLOW));
}

static int on_readlink(const char *path, char *buf, size_t size)
{
	ssize_t n = readlinkat(backing(), relative(path), buf, size - 1);

	if (n >= 0)
		buf[n] = '\0';
	return answer(n);
}

static int on_mkdir(const char *path, mode_t mode)
{
	return answer(mkdirat(backing(), relative(path), mode));
}

static int on_unlink(const char *path)
{
	return answer(unlinkat(backing(), relative(path), 0));
}

static int on_rmdir(const char *path)
{
	return answer(unlinkat(backing(), relative(path), AT_REMOVEDIR));
}

static int on_symlink(const char *target, const char *path)
{
	return answer(symlinkat(target, backing(), relative(path)));
}

static int on_rename(const char *from, const char *to, unsigned int flags)
{
	return answer(renameat2(backing(), relative(from), backing(), relative(to), flags));
}

static int on_link(const char *from, const char *to)
{
	return answer(linkat(backing(), relative(from), backing(), relative(to), 0));
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	if (fi != NULL)
		return answer(fchmod((int)fi->fh, mode));
	return answer(fchmodat(backing(), relative(path), mode, 0));
}

static int on_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	if (fi != NULL)
		return answer(fchown((int)fi->fh, uid, gid));
	return answer(fchownat(backing(), relative(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int on_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	if (fi != NULL)
		return answer(futimens((int)fi->fh, times));
	return answer(utimensat(backing(), relative(path), times, AT_SYMLINK_NOFOLLOW));
}

static int open_into(const char *path, int flags, mode_t mode, struct fuse_file_info *fi)
{
	int fd = openat(backing(), relative(path), flags | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	return 0;
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	round_trip();
	return open_into(path, fi->flags, mode, fi);
}

static int on_open(const char *path, struct fuse_file_info *fi)
{
	return open_into(path, fi->flags, 0, fi);
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	struct fuse_file_info own = {0};
	int code;

	if (fi != NULL)
		return answer(ftruncate((int)fi->fh, size));
	code = open_into(path, O_WRONLY, 0, &own);
	if (code < 0)
		return code;
	code = answer(ftruncate((int)own.fh, size));
	close((int)own.fh);
	return code;
}

static int on_read(
	const char *path, char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	ssize_t n = pread((int)fi->fh, buf, size, offset);

	(void)path;
	return n < 0 ? -errno : (int)n;
}

static int on_write(
	const char *path, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	ssize_t n = pwrite((int)fi->fh, buf, size, offset);

	(void)path;
	return n < 0 ? -errno : (int)n;
}

static int on_flush(const char *path, struct fuse_file_info *fi)
{
	(void)path, (void)fi;
	round_trip();
	return 0;
}

static int on_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return answer(close((int)fi->fh));
}

static int on_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path;
	return answer(data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int on_statfs(const char *path, struct statvfs *ret_st)
{
	(void)path;
	return answer(fstatvfs(backing(), ret_st));
}

static int on_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
	struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	int fd = openat(backing(), relative(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	(void)offset, (void)fi, (void)flags;
	if (dir == NULL)
		return -errno;
	while ((entry = readdir(dir)) != NULL)
		fill(buf, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->hard_remove = 1; /* no hidden files in place of what was removed while open */
	return fuse_get_context()->private_data;
}

static const struct fuse_operations operations = {
	.init = on_init,
	.getattr = on_getattr,
	.readlink = on_readlink,
	.mkdir = on_mkdir,
	.unlink = on_unlink,
	.rmdir = on_rmdir,
	.symlink = on_symlink,
	.rename = on_rename,
	.link = on_link,
	.chmod = on_chmod,
	.chown = on_chown,
	.utimens = on_utimens,
	.create = on_create,
	.open = on_open,
	.truncate = on_truncate,
	.read = on_read,
	.write = on_write,
	.flush = on_flush,
	.release = on_release,
	.fsync = on_fsync,
	.statfs = on_statfs,
	.readdir = on_readdir,
};

int main(int argc, char **argv)
{
	/* libfuse's own limit of threads is 10: fewer than a network server would serve. */
	char options[] = "default_permissions,clone_fd,max_threads=128,max_idle_threads=128";
	int fd;

	if (argc != 3) {
		fputs("usage: slowfs BACKING MOUNTPOINT\n", stderr);
		return 2;
	}
	umask(0); /* the caller's was applied by the kernel */
	fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "slowfs: cannot open %s: %m\n", argv[1]);
		return 1;
	}
	char *mount_words[] = {argv[0], "-f", "-o", options, argv[2], NULL};

	return fuse_main(5, mount_words, &operations, (void *)(intptr_t)fd);
}
