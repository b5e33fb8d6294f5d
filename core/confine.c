#include "core/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The headers of an older kernel lack these. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- files ---- */

/* Before its second version a rename between directories was never allowed. */
#define LANDLOCK_MIN 2
#define LANDLOCK_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
#define LANDLOCK_DIR                                                                                                   \
	(LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |                    \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                 \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

/* All that this version knows of. */
static uint64_t handled(long version)
{
	uint64_t all = LANDLOCK_FILE | LANDLOCK_DIR | LANDLOCK_ACCESS_FS_EXECUTE;

	return version >= 3 ? all : all & ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
}

static uint64_t rights_of(unsigned rights, bool is_dir)
{
	uint64_t r = 0;

	if ((rights & CONFINE_WRITE) != 0)
		r |= LANDLOCK_FILE | LANDLOCK_DIR;
	if ((rights & CONFINE_READ) != 0)
		r |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	if ((rights & CONFINE_LIST) != 0)
		r |= LANDLOCK_ACCESS_FS_READ_DIR;
	if ((rights & CONFINE_RUN) != 0)
		r |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE;
	return is_dir ? r : r & (LANDLOCK_FILE | LANDLOCK_ACCESS_FS_EXECUTE);
}

static int allow(int ruleset, const struct confine_place *p, uint64_t known, struct err *err)
{
	struct landlock_path_beneath_attr rule = { .parent_fd = p->fd };
	struct stat st;

	if (fstat(p->fd, &st) < 0)
		return err_errno(err, errno, "fstat");
	rule.allowed_access = rights_of(p->rights, S_ISDIR(st.st_mode)) & known;
	if (rule.allowed_access != 0 &&
	    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(err, errno, "landlock_add_rule");
	return 0;
}

/* What is its own there: extended attributes are reached through /proc/self/fd, mounts are read. The descriptor stays
 * open: were the kernel to forget the directory, the one that it makes next would be another one. */
static struct confine_place own_proc(void)
{
	return (struct confine_place){ .fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC),
				       .rights = CONFINE_READ };
}

static long abi(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* *ruleset is -1 where the kernel has none. `first` is one more place. */
static int make_ruleset(const struct confine_place *first, const struct confine_place *places, size_t n, int *ruleset,
			struct err *err)
{
	long version = abi();
	const uint64_t known = handled(version);
	struct landlock_ruleset_attr attr = { .handled_access_fs = known };
	int result = 0;

	*ruleset = -1;
	if (version < LANDLOCK_MIN)
		return 0;
	*ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (*ruleset < 0)
		return err_errno(err, errno, "landlock_create_ruleset");
	if (first->fd >= 0)
		result = allow(*ruleset, first, known, err);
	for (size_t i = 0; i < n && result == 0; i++)
		if (places[i].fd >= 0)
			result = allow(*ruleset, &places[i], known, err);
	if (result < 0) {
		(void)close(*ruleset);
		*ruleset = -1;
	}
	return result;
}

static int lock_files(const struct confine_place *places, size_t n, bool *done, struct err *err)
{
	const struct confine_place proc = own_proc();
	int ruleset, result = make_ruleset(&proc, places, n, &ruleset, err);

	if (result < 0 || ruleset < 0)
		return result;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		result = err_errno(err, errno, "landlock_restrict_self");
	(void)close(ruleset);
	*done = result == 0;
	return result;
}

/* ---- of a program ---- */

bool confine_has_domains(void)
{
	return abi() >= LANDLOCK_MIN;
}

int confine_domain(const struct confine_place *places, size_t n, int *domain, struct err *err)
{
	/* A sanitizer looks at the process's memory map when it starts. */
	const struct confine_place proc = { .fd = SANITIZED ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1,
					    .rights = CONFINE_READ };
	int result = make_ruleset(&proc, places, n, domain, err);

	if (proc.fd >= 0)
		(void)close(proc.fd);
	return result;
}

/* ---- calls ---- */

/* What none of them has a use for, and what a hijacked one would look for first. */
static const int forbidden[] = {
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(socketpair),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(kcmp),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount),
	SCMP_SYS(fspick),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(pivot_root),
	SCMP_SYS(chroot),
	SCMP_SYS(setns),
	SCMP_SYS(unshare),
	SCMP_SYS(open_by_handle_at),
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
	SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime),
	SCMP_SYS(adjtimex),
	SCMP_SYS(clock_adjtime),
	SCMP_SYS(sethostname),
	SCMP_SYS(setdomainname),
	SCMP_SYS(acct),
	SCMP_SYS(quotactl),
	SCMP_SYS(syslog),
	SCMP_SYS(personality),
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(fanotify_init),
	SCMP_SYS(fanotify_mark),
	SCMP_SYS(kill),
	SCMP_SYS(shmget),
	SCMP_SYS(msgget),
	SCMP_SYS(semget),
};
static const int connects[] = { SCMP_SYS(socket), SCMP_SYS(connect) };
static const int forks[] = { SCMP_SYS(fork), SCMP_SYS(vfork) };
static const int clones[] = { SCMP_SYS(clone), SCMP_SYS(clone3), SCMP_SYS(tkill) };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int forbid(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	int result = 0;

	for (size_t i = 0; i < n && result == 0; i++) {
		if (SANITIZED && calls[i] == SCMP_SYS(ptrace))
			continue;
		result = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
		if (result == -EDOM) /* not on this architecture */
			result = 0;
	}
	return result;
}

/* A thread is a clone with CLONE_THREAD. What clone3 is asked for can't be seen: without it the C library takes clone.
 */
static int forbid_processes(scmp_filter_ctx ctx)
{
	int result = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	return result != 0 ? result
			   : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
					      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
}

static int add_rules(scmp_filter_ctx ctx, unsigned may)
{
	int result = forbid(ctx, forbidden, COUNT(forbidden));

	if (result == 0 && (may & CONFINE_CONNECT) == 0)
		result = forbid(ctx, connects, COUNT(connects));
	if (result == 0)
		result = forbid(ctx, forks, COUNT(forks));
	if (result == 0 && !SANITIZED)
		result = (may & CONFINE_THREADS) != 0 ? forbid_processes(ctx) : forbid(ctx, clones, COUNT(clones));
	return result;
}

static int lock_calls(unsigned may, bool *done, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int result;

	if (ctx == NULL)
		return err_set(err, ERR_NOMEM, "out of memory for a seccomp filter");
	if ((may & CONFINE_QUICK) != 0)
		(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	result = add_rules(ctx, may);
	if (result == 0)
		result = seccomp_load(ctx);
	seccomp_release(ctx);
	*done = result == 0;
	if (result == -EINVAL || result == -ENOSYS)
		return 0; /* a kernel without it */
	return result == 0 ? 0 : err_errno(err, -result, "seccomp");
}

/* ---- all of it ---- */

int confine_memory(struct err *err)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, errno, "core dumps can't be switched off");
	return 0;
}

/* One byte is too little for a file, and tells the kernel that a program that core_pattern names gets nothing either,
 * which a limit of 0 does not. The programs' own flag (PR_SET_DUMPABLE) would not outlast their start. */
int confine_cores(struct err *err)
{
	const struct rlimit one = { 1, 1 };
	struct rlimit now;

	if (getrlimit(RLIMIT_CORE, &now) < 0 || (now.rlim_max > 0 && setrlimit(RLIMIT_CORE, &one) < 0))
		return err_errno(err, errno, "core dumps can't be switched off");
	return 0;
}

int confine(const struct confine_place *places, size_t n, unsigned may, struct confinement *out, struct err *err)
{
	memset(out, 0, sizeof(*out));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "prctl PR_SET_NO_NEW_PRIVS");
	if ((may & CONFINE_SECRETS) != 0 && confine_memory(err) < 0)
		return -1;
	return lock_files(places, n, &out->files, err) < 0 || lock_calls(may, &out->calls, err) < 0 ? -1 : 0;
}

int confine_files(const struct confine_place *places, size_t n, struct err *err)
{
	bool done = false;

	return lock_files(places, n, &done, err);
}
