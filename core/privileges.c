#include "core/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What rsync -a needs as root, and ssh to change to another user. */
static const unsigned of_worker[] = {
	CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,	CAP_FSETID,	      CAP_KILL,
	CAP_SETGID, CAP_SETUID,	      CAP_MKNOD,	   CAP_SETFCAP, CAP_NET_BIND_SERVICE,
};

static bool is_kept(const struct privileges *p, unsigned cap)
{
	for (size_t i = 0; i < p->n_kept; i++)
		if (p->kept[i] == cap)
			return true;
	return false;
}

static int drop_bounding_set(const struct privileges *p, struct err *err)
{
	for (unsigned cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!is_kept(p, cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM && errno != EINVAL)
			return err_errno(err, errno, "prctl PR_CAPBSET_DROP %u", cap);
	return 0; /* EPERM: an ordinary user, who has nothing to drop */
}

static int drop_own(const struct privileges *p, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return err_errno(err, errno, "capget");
	for (unsigned cap = 0; cap < 64; cap++) {
		unsigned bit = 1u << (cap % 32);

		if (is_kept(p, cap))
			continue;
		data[cap / 32].effective &= ~bit;
		data[cap / 32].permitted &= ~bit;
		data[cap / 32].inheritable &= ~bit;
	}
	if (!p->inherit)
		data[0].inheritable = data[1].inheritable = 0;
	if (syscall(SYS_capset, &head, data) < 0)
		return err_errno(err, errno, "capset");
	return 0;
}

int privileges_keep(const struct privileges *p, struct err *err)
{
	if (drop_bounding_set(p, err) < 0 || drop_own(p, err) < 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, errno, "prctl PR_SET_NO_NEW_PRIVS");
	return 0;
}

int privileges_reduce(struct err *err)
{
	return privileges_keep(&(struct privileges){ .kept = of_worker,
						     .n_kept = sizeof(of_worker) / sizeof(of_worker[0]),
						     .inherit = true },
			       err);
}
