#include "core/log_entry.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/journal.h"
#include "core/json.h"

#define LINE_MAX_BYTES (1024u * 1024)
#define PATIENCE_MS 20u

static struct journal_field field(const char *name, const char *value)
{
	return (struct journal_field){ name, value, value == NULL ? 0 : strlen(value) };
}

static enum journal_answer send_entry(const struct log_journal *j, const struct log_entry *e)
{
	char level[16], facility[16];

	(void)snprintf(level, sizeof(level), "%d", e->priority);
	(void)snprintf(facility, sizeof(facility), "%d", (e->facility & LOG_FACMASK) >> 3);
	{
		const struct journal_field fields[] = {
			{ "MESSAGE", e->text, e->len },
			field("PRIORITY", level),
			field("SYSLOG_IDENTIFIER", e->ident),
			field("SYSLOG_FACILITY", facility),
			field("CATEGORY", log_category_name(e->cat)),
			field("MESSAGE_ID", e->fields.message_id),
			field("SYNC", e->fields.sync),
			{ "PATH", e->fields.path, e->fields.path_len },
		};

		return journal_send(j->fd, j->path, fields, sizeof(fields) / sizeof(fields[0]));
	}
}

/* In a burst its queue is full for a moment. */
static enum journal_answer send_patiently(struct log_journal *j, const struct log_entry *e)
{
	enum journal_answer answer = send_entry(j, e);

	for (unsigned i = 0; i < PATIENCE_MS && answer == JOURNAL_BUSY && !j->stuck; i++) {
		(void)poll(NULL, 0, 1);
		answer = send_entry(j, e);
	}
	j->stuck = answer == JOURNAL_BUSY;
	return answer;
}

/* false: not even that was taken. */
static bool tell_lost(struct log_journal *j, const struct log_entry *e)
{
	char text[128];
	struct log_entry lost = {
		.cat = LOG_CAT_WARN, .priority = LOG_WARNING, .facility = e->facility, .ident = e->ident
	};

	lost.len = (size_t)snprintf(text, sizeof(text), "%llu lines before this one are lost: the journal did not read",
				    (unsigned long long)j->lost);
	lost.text = text;
	if (send_patiently(j, &lost) == JOURNAL_BUSY)
		return false;
	j->lost = 0;
	return true;
}

bool log_entry_to_journal(void *ctx, const struct log_entry *e)
{
	struct log_journal *j = ctx;
	enum journal_answer answer = JOURNAL_BUSY;

	if (j->lost == 0 || tell_lost(j, e))
		answer = send_patiently(j, e);
	if (answer == JOURNAL_BUSY) {
		j->lost++;
		log_count_lost();
	}
	return answer != JOURNAL_ABSENT;
}

char *log_entry_json(const struct log_entry *e, size_t *len)
{
	struct buf out;

	buf_init(&out, LINE_MAX_BYTES);
	buf_add_byte(&out, '{');
	json_put_double(&out, "time", (double)clock_real_ns() / (double)NS_PER_S);
	json_put_string(&out, "category", log_category_name(e->cat));
	json_put_u64(&out, "priority", (uint64_t)e->priority);
	json_put_bytes(&out, "message", e->text, e->len);
	if (e->fields.sync != NULL)
		json_put_string(&out, "sync", e->fields.sync);
	if (e->fields.path != NULL)
		json_put_bytes(&out, "path", e->fields.path, e->fields.path_len);
	if (e->fields.message_id != NULL)
		json_put_string(&out, "message_id", e->fields.message_id);
	buf_add_str(&out, "}\n");
	if (out.failed) {
		buf_done(&out);
		return NULL;
	}
	*len = out.len;
	return out.data;
}
