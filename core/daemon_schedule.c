/*
 * daemon_schedule.c - comparisons at times of the day (`schedule`).
 *
 * One timer of the wall clock for all syncs. It wakes when the clock is set as well; and every hour, for what nothing
 * tells of: another time zone.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/daemon_private.h"
#include "core/log.h"

#define LOOK_AGAIN_S 3600

static int64_t now_s(void)
{
	return clock_real_ns() / NS_PER_S;
}

int schedules_read(struct member *m, struct err *err)
{
	const struct strlist *texts = &sync_options_of(m->sync)->schedule;

	m->schedule_due_s = SCHEDULE_NEVER;
	if (texts->n == 0)
		return 0;
	m->schedules = calloc(texts->n, sizeof(*m->schedules));
	if (m->schedules == NULL)
		return err_set(err, ERR_NOMEM, "out of memory");
	m->n_schedules = texts->n;
	for (size_t i = 0; i < texts->n; i++) {
		m->schedules[i].seen = now_s();
		if (schedule_parse(&m->schedules[i].when, texts->v[i], err) < 0)
			return -1;
	}
	return 0;
}

/* Whether the member has been due; when it is next. */
static bool was_due(struct member *m, int64_t now)
{
	bool due = false;

	m->schedule_due_s = SCHEDULE_NEVER;
	for (size_t i = 0; i < m->n_schedules; i++) {
		int64_t next;

		if (schedule_tick(&m->schedules[i], now, &next))
			due = true;
		if (next < m->schedule_due_s)
			m->schedule_due_s = next;
	}
	return due;
}

void schedules_poll(struct daemon *d)
{
	int64_t now = now_s(), next = now + LOOK_AGAIN_S;
	struct itimerspec at = { 0 };
	bool any = false;

	if (d->schedule_fd < 0)
		return;
	tzset(); /* the zone may be another one by now */
	for (size_t i = 0; i < d->n_members; i++) {
		struct member *m = d->members[i];

		if (m->n_schedules == 0)
			continue;
		any = true;
		/* While its source is missing nothing is to be done: when it is back everything is compared anyway. */
		if (was_due(m, now) && m->running) {
			log_info("%s: everything is compared, by the schedule", sync_options_of(m->sync)->name);
			sync_reconcile(m->sync, "schedule", false, false, d->generation);
			d->poll_all = true;
		}
		if (m->schedule_due_s < next)
			next = m->schedule_due_s;
	}
	at.it_value.tv_sec = any ? (time_t)next : 0;
	/* ECANCELED: the clock was set meanwhile; the timer is armed, and what it missed it makes up for within the
	 * hour. */
	if (timerfd_settime(d->schedule_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) < 0 &&
	    errno != ECANCELED)
		log_error("schedule: the timer can't be set: nothing is compared by it any more");
}

static void on_schedule(void *ctx, int fd, unsigned events)
{
	uint64_t count;

	(void)events;
	if (read(fd, &count, sizeof(count)) < 0 && errno == EAGAIN)
		return;
	schedules_poll(ctx); /* also after ECANCELED: the clock was set */
}

int schedules_open(struct daemon *d, struct err *err)
{
	d->schedule_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (d->schedule_fd < 0)
		return err_errno(err, errno, "timerfd_create");
	d->schedule_watch = loop_fd_add(d->loop, d->schedule_fd, LOOP_READ, on_schedule, d, err);
	return d->schedule_watch == NULL ? -1 : 0;
}

void schedules_close(struct daemon *d)
{
	loop_fd_remove(d->schedule_watch);
	if (d->schedule_fd >= 0)
		(void)close(d->schedule_fd);
	d->schedule_watch = NULL;
	d->schedule_fd = -1;
}
