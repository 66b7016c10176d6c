/* SPDX-License-Identifier: MIT */
/* A directory shown through FUSE with the latency of a network file system: each create and each flush
 * (the close) takes a millisecond more, as a round trip to an NFS or Lustre server would. Everything
 * else passes through at once. Requests are served by many threads, so what the caller has in flight
 * at once also waits at once; what the kernel does in order (creates in one directory) stays in order.
 * The kernel asks, not a preloaded library, so raw system calls feel it too.
 *
 *     slowfs BACKING MOUNTPOINT [WORD...]        in the foreground; SIGTERM unmounts and ends it
 *
 * With words it is not slow, but odd in these ways (several can be combined):
 *
 *     fold            names are lower-cased: README and readme are one, and it is called readme
 *     fold=keep       likewise, but a name stays as it was first written
 *     compose         "e" with a combining acute accent becomes one letter, in names
 *     chmod=E chown=E utime=E link=E    fail with that errno, by its name: chmod=EPERM
 *     chmod=ignore    is done without doing it; so with chown and utime
 *     symlink=E fsync=E  likewise; fsync also of a directory
 *     write=E         writing beyond the first 16 KiB of a file fails with that errno
 *     mkdir=ignore    a directory gets the mode 0777 whatever was asked
 *     xattr=E         setting an attribute fails with that errno; xattr=keep: it is set
 *     modes=OCTAL     is the mode of every file, directories with x
 *     rename=flags    with flags (EXCHANGE, NOREPLACE) fails with EINVAL
 *     rename=full     of a directory that is not empty fails with EMFILE
 *     rename=dir      of a directory fails with EXDEV; rename=full:E, rename=dir:E: with that errno
 *     statfs=zero     says 0 of everything; statfs=none has no statfs; statfs=more: more is free than there is
 *     ino=N           inode numbers are others, for each N; ino=none: the kernel gives them, as it forgets and looks up
 *     flock=E         flock fails with that errno; flock=none always succeeds
 *     readdir=E:PATH  listing the directory PATH (from the root, no slash before it) fails with that errno
 *     unlink=slow     each removal of a file takes 50 ms */
#define FUSE_USE_VERSION  35
#define _FILE_OFFSET_BITS 64
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

enum { LATENCY_NS = 1000000, UNLINK_NS = 50000000, IGNORE = -1, WRITE_BYTES = 16384 };

/* Set before it is mounted. */
static struct {
	bool slow, fold, keep, compose;
	int chmod, chown, utime, link, flock; /* errno, IGNORE or 0 */
	int symlink, fsync, write, mkdir;
	int xattr;
	bool has_flock, has_xattr;
	mode_t modes;
	const char *rename, *statfs;
	int rename_errno;
	ino_t ino;
	bool no_ino;
	bool slow_unlink;
	int readdir; /* errno, of the listing of this directory */
	const char *readdir_path;
} how;

static void round_trip(void)
{
	if (!how.slow)
		return;
	nanosleep(&(struct timespec){.tv_nsec = LATENCY_NS}, NULL);
}

static int backing(void)
{
	return (int)(intptr_t)fuse_get_context()->private_data;
}

/* The name in dir that differs from name, which is in the rest of a path, in case only; it stays as long. */
static void find_kept(const char *dir, char *name)
{
	int fd = openat(backing(), dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *found = fd < 0 ? NULL : fdopendir(fd);
	size_t len = strcspn(name, "/");
	struct dirent *e;

	while (found != NULL && (e = readdir(found)) != NULL)
		if (strncasecmp(e->d_name, name, len) == 0 && e->d_name[len] == '\0')
			memcpy(name, e->d_name, len);
	if (found != NULL)
		closedir(found);
}

static void keep_case(char *path)
{
	char *name = path;

	find_kept(".", name);
	while ((name = strchr(name, '/')) != NULL) {
		*name = '\0';
		find_kept(path, name + 1);
		*name++ = '/';
	}
}

static void compose(char *path)
{
	char *at;

	while ((at = strstr(path, "e\xcc\x81")) != NULL) {
		memcpy(at, "\xc3\xa9", 2);
		memmove(at + 2, at + 3, strlen(at + 3) + 1);
	}
}

/* The kernel has resolved the path and asks for one name at a time: no link is followed here. */
static const char *name_in(char buf[static PATH_MAX], const char *path)
{
	if (path[1] == '\0')
		return ".";
	snprintf(buf, PATH_MAX, "%s", path + 1);
	if (how.compose)
		compose(buf);
	if (how.fold && how.keep)
		keep_case(buf);
	for (char *c = buf; how.fold && !how.keep && *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	return buf;
}
#define relative(path) name_in((char[PATH_MAX]){0}, path)

static int answer(long result)
{
	return result < 0 ? -errno : 0;
}

static int on_getattr(const char *path, struct stat *ret_st, struct fuse_file_info *fi)
{
	int code = answer(
		fi != NULL ? fstat((int)fi->fh, ret_st)
			   : fstatat(backing(), relative(path), ret_st, AT_SYMLINK_NOFOLLOW));

	if (code == 0 && how.ino != 0)
		ret_st->st_ino = ret_st->st_ino * 31 + how.ino;
	if (code == 0 && how.modes != 0 && !S_ISLNK(ret_st->st_mode))
		ret_st->st_mode = (ret_st->st_mode & S_IFMT) | how.modes |
				  (S_ISDIR(ret_st->st_mode) ? 0111 : 0);
	return code;
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
	if (how.mkdir == IGNORE && mkdirat(backing(), relative(path), 0777) == 0)
		return answer(fchmodat(backing(), relative(path), 0777, 0));
	return answer(mkdirat(backing(), relative(path), mode));
}

static int on_unlink(const char *path)
{
	if (how.slow_unlink)
		nanosleep(&(struct timespec){.tv_nsec = UNLINK_NS}, NULL);
	return answer(unlinkat(backing(), relative(path), 0));
}

static int on_rmdir(const char *path)
{
	return answer(unlinkat(backing(), relative(path), AT_REMOVEDIR));
}

static int on_symlink(const char *target, const char *path)
{
	if (how.symlink != 0)
		return -how.symlink;
	return answer(symlinkat(target, backing(), relative(path)));
}

static bool is_full(const char *path)
{
	int fd = openat(backing(), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n > 2;
}

static int refuse_rename(const char *from, unsigned int flags)
{
	struct stat st;
	bool is_dir = fstatat(backing(), relative(from), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		      S_ISDIR(st.st_mode);

	if (strcmp(how.rename, "flags") == 0 && flags != 0)
		return -EINVAL;
	if (strncmp(how.rename, "full", 4) == 0 && is_dir && is_full(relative(from)))
		return -how.rename_errno;
	return strncmp(how.rename, "dir", 3) == 0 && is_dir ? -how.rename_errno : 0;
}

static int on_rename(const char *from, const char *to, unsigned int flags)
{
	int code = how.rename != NULL ? refuse_rename(from, flags) : 0;

	if (code < 0)
		return code;
	return answer(renameat2(backing(), relative(from), backing(), relative(to), flags));
}

static int on_link(const char *from, const char *to)
{
	if (how.link != 0)
		return -how.link;
	return answer(linkat(backing(), relative(from), backing(), relative(to), 0));
}

static int on_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	if (how.chmod != 0)
		return how.chmod == IGNORE ? 0 : -how.chmod;
	if (fi != NULL)
		return answer(fchmod((int)fi->fh, mode));
	return answer(fchmodat(backing(), relative(path), mode, 0));
}

static int on_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	if (how.chown != 0)
		return how.chown == IGNORE ? 0 : -how.chown;
	if (fi != NULL)
		return answer(fchown((int)fi->fh, uid, gid));
	return answer(fchownat(backing(), relative(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int on_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	if (how.utime != 0)
		return how.utime == IGNORE ? 0 : -how.utime;
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
	ssize_t n;

	(void)path;
	if (how.write != 0 && offset + (off_t)size > WRITE_BYTES)
		return -how.write;
	n = pwrite((int)fi->fh, buf, size, offset);
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

static int on_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path, (void)data_only, (void)fi;
	return -how.fsync;
}

static int on_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path;
	if (how.fsync != 0)
		return -how.fsync;
	return answer(data_only ? fdatasync((int)fi->fh) : fsync((int)fi->fh));
}

static int on_statfs(const char *path, struct statvfs *ret_st)
{
	(void)path;
	if (how.statfs != NULL) {
		*ret_st = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
		if (strcmp(how.statfs, "more") == 0) {
			ret_st->f_blocks = ret_st->f_files = 1;
			ret_st->f_bfree = UINT32_MAX;
		}
		return 0;
	}
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
	if (how.readdir != 0 && strcmp(relative(path), how.readdir_path) == 0) {
		closedir(dir);
		return -how.readdir;
	}
	while ((entry = readdir(dir)) != NULL)
		fill(buf, entry->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static int on_flock(const char *path, struct fuse_file_info *fi, int op)
{
	(void)path;
	if (how.flock != 0)
		return how.flock == IGNORE ? 0 : -how.flock;
	return answer(flock((int)fi->fh, op));
}

static int on_setxattr(
	const char *path, const char *name, const char *value, size_t size, int flags)
{
	char full[PATH_MAX + 32];

	if (how.xattr != IGNORE)
		return -how.xattr;
	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", backing(), relative(path));
	return answer(lsetxattr(full, name, value, size, flags));
}

static void *on_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->use_ino = !how.no_ino; /* as a network file system: the same through every mount */
	config->hard_remove = 1;       /* no hidden files in place of what was removed while open */
	/* The kernel would remember what it asked for by another name. */
	if (how.fold || how.compose)
		config->entry_timeout = config->attr_timeout = config->negative_timeout = 0;
	return fuse_get_context()->private_data;
}

static struct fuse_operations operations = {
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
	.fsyncdir = on_fsyncdir,
	.statfs = on_statfs,
	.readdir = on_readdir,
};

static int errno_named(const char *name)
{
	if (strcmp(name, "ignore") == 0 || strcmp(name, "none") == 0 || strcmp(name, "keep") == 0)
		return IGNORE;
	for (int n = 1; n < 134; n++)
		if (strerrorname_np(n) != NULL && strcmp(strerrorname_np(n), name) == 0)
			return n;
	fprintf(stderr, "slowfs: there is no errno %s\n", name);
	exit(2);
}

/* The value of "name=value"; NULL: word is another one. */
static const char *value_of(const char *word, const char *name)
{
	size_t len = strlen(name);

	return strncmp(word, name, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

static bool take_errno(const char *word, const char *name, int *into)
{
	const char *value = value_of(word, name);

	if (value != NULL)
		*into = errno_named(value);
	return value != NULL;
}

static bool take_rename(const char *value)
{
	const char *name = strchr(value, ':');

	how.rename = value;
	how.rename_errno = strncmp(value, "dir", 3) == 0 ? EXDEV : EMFILE;
	if (name != NULL)
		how.rename_errno = errno_named(name + 1);
	return true;
}

static bool take_word(const char *word)
{
	const char *value;

	if (strcmp(word, "compose") == 0)
		return how.compose = true;
	if (strcmp(word, "fold") == 0)
		return how.fold = true;
	if (strcmp(word, "fold=keep") == 0)
		return how.fold = how.keep = true;
	if (strcmp(word, "ino=none") == 0)
		return how.no_ino = true;
	if ((value = value_of(word, "ino")) != NULL)
		return (how.ino = strtoul(value, NULL, 10)) != 0;
	if ((value = value_of(word, "rename")) != NULL)
		return take_rename(value);
	if ((value = value_of(word, "statfs")) != NULL)
		return (how.statfs = value) != NULL;
	if ((value = value_of(word, "modes")) != NULL)
		return (how.modes = (mode_t)strtoul(value, NULL, 8)) != 0;
	if (strcmp(word, "unlink=slow") == 0)
		return how.slow_unlink = true;
	if ((value = value_of(word, "readdir")) != NULL && strchr(value, ':') != NULL) {
		char name[16];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(value, ":"), value);
		how.readdir = errno_named(name);
		how.readdir_path = strchr(value, ':') + 1;
		return true;
	}
	if (take_errno(word, "flock", &how.flock))
		return how.has_flock = true;
	if (take_errno(word, "xattr", &how.xattr))
		return how.has_xattr = true;
	return take_errno(word, "chmod", &how.chmod) || take_errno(word, "chown", &how.chown) ||
	       take_errno(word, "utime", &how.utime) || take_errno(word, "link", &how.link) ||
	       take_errno(word, "symlink", &how.symlink) || take_errno(word, "fsync", &how.fsync) ||
	       take_errno(word, "write", &how.write) || take_errno(word, "mkdir", &how.mkdir);
}

int main(int argc, char **argv)
{
	/* libfuse's own limit of threads is 10: fewer than a network server would serve. */
	char options[] = "default_permissions,clone_fd,max_threads=128,max_idle_threads=128";
	int fd;

	if (argc < 3) {
		fputs("usage: slowfs BACKING MOUNTPOINT [WORD...]\n", stderr);
		return 2;
	}
	how.slow = argc == 3;
	for (int i = 3; i < argc; i++) {
		if (!take_word(argv[i])) {
			fprintf(stderr, "slowfs: unknown word %s\n", argv[i]);
			return 2;
		}
	}
	if (how.has_flock)
		operations.flock = on_flock;
	if (how.has_xattr)
		operations.setxattr = on_setxattr;
	if (how.statfs != NULL && strcmp(how.statfs, "none") == 0)
		operations.statfs = NULL;
	umask(0); /* the caller's was applied by the kernel */
	fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "slowfs: cannot open %s: %m\n", argv[1]);
		return 1;
	}
	char *mount_words[] = {argv[0], "-f", "-o", options, argv[2], NULL};

	return fuse_main(5, mount_words, &operations, (void *)(intptr_t)fd);
}
