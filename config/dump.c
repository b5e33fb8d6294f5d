/* dump.c - the effective configuration as text: for --check, and for the worker that reads it back. */
#include <inttypes.h>
#include <string.h>

#include "config/private.h"
#include "core/tunnel_port.h"

static void put_string(struct buf *out, const char *s)
{
	(void)buf_add_byte(out, '"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			(void)buf_printf(out, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			(void)buf_printf(out, "\\x%02x", c);
		else
			(void)buf_add_byte(out, c);
	}
	(void)buf_add_byte(out, '"');
}

/* With the port of the tunnel put in; 0: the word for it stays. */
static void put_with_port(struct buf *out, const char *s, uint16_t port)
{
	struct buf text;

	if (port == 0 || !tunnel_port_named(s)) {
		put_string(out, s);
		return;
	}
	buf_init(&text, CONFIG_TEXT_MAX);
	if (tunnel_port_put(&text, s, port))
		put_string(out, buf_str(&text));
	else
		out->failed = true;
	buf_done(&text);
}

static void put_list(struct buf *out, const struct strlist *l, uint16_t port)
{
	(void)buf_add_str(out, "[ ");
	for (size_t i = 0; i < l->n; i++) {
		if (i > 0)
			(void)buf_add_str(out, ", ");
		put_with_port(out, l->v[i], port);
	}
	(void)buf_add_str(out, " ]");
}

static void put_choice(struct buf *out, const struct config_key *k, const void *field)
{
	int value;

	memcpy(&value, field, sizeof(value));
	for (const struct config_choice *c = k->choices; c->word != NULL; c++) {
		if (c->value != value)
			continue;
		if ((k->flags & KEY_CHOICE_BOOL) != 0 &&
		    (strcmp(c->word, "true") == 0 || strcmp(c->word, "false") == 0))
			(void)buf_add_str(out, c->word);
		else
			put_string(out, c->word);
		return;
	}
}

static void put_int(struct buf *out, int64_t v)
{
	(void)buf_printf(out, "%" PRId64 "%s", v, v > INT32_MAX || v < INT32_MIN ? "L" : "");
}

static void put_time(struct buf *out, int64_t ns)
{
	char digits[16];
	size_t n;

	(void)buf_printf(out, "%" PRId64, ns / 1000000000);
	(void)snprintf(digits, sizeof(digits), "%09" PRId64, ns % 1000000000);
	for (n = 9; n > 1 && digits[n - 1] == '0'; n--)
		;
	(void)buf_printf(out, ".%.*s", (int)n, digits);
}

/* Whether there is anything to write: what is absent is left out. */
static bool present(const struct config_key *k, const void *field)
{
	if (k->type == TYPE_IGNORED || (k->flags & KEY_FILTER) != 0)
		return false;
	if (k->type == TYPE_STRING || k->type == TYPE_PATH)
		return *(char *const *)field != NULL;
	if (k->type == TYPE_LIST)
		return ((const struct strlist *)field)->n > 0;
	return true;
}

static void put_key(struct buf *out, const struct config_key *k, const void *field, const char *indent, uint16_t port)
{
	bool of_tunnel =
		(k->flags & KEY_PORT) != 0 && k->type == TYPE_INT && *(const int64_t *)field == OPTIONS_TUNNEL_PORT;

	if ((k->flags & KEY_PORT) == 0)
		port = 0;
	(void)buf_printf(out, "%s%s = ", indent, k->name);
	if (k->type == TYPE_BOOL)
		(void)buf_add_str(out, *(const bool *)field ? "true" : "false");
	else if ((k->flags & KEY_AUTO) != 0 && *(const int64_t *)field < 0)
		put_string(out, "auto");
	else if (of_tunnel && port == 0)
		put_string(out, TUNNEL_PORT_WORD);
	else if (k->type == TYPE_INT)
		put_int(out, of_tunnel ? port : *(const int64_t *)field);
	else if (k->type == TYPE_TIME)
		put_time(out, *(const int64_t *)field);
	else if (k->type == TYPE_CHOICE)
		put_choice(out, k, field);
	else if (k->type == TYPE_LIST)
		put_list(out, field, port);
	else
		put_with_port(out, *(char *const *)field, port);
	(void)buf_add_str(out, ";\n");
}

/* `port`: of the sync's tunnel; 0: the word for it is written. */
static void put_section(struct buf *out, enum config_section section, const void *base, const char *indent,
			const char *except, uint16_t port)
{
	size_t n;
	const struct config_key *table = config_table(&n);
	const char *transport = section != SECTION_SETTINGS && section < SECTION_RECEIVER
					? ((const struct sync_options *)base)->transport
					: NULL;

	for (size_t i = 0; i < n; i++) {
		const void *field = (const char *)base + table[i].offset;

		if (table[i].section == section && present(&table[i], field) &&
		    (except == NULL || strcmp(except, table[i].name) != 0) &&
		    (table[i].only == NULL || (transport != NULL && strcmp(table[i].only, transport) == 0)))
			put_key(out, &table[i], field, indent, port);
	}
}

static void put_filter(struct buf *out, const struct filter *f)
{
	if (filter_count(f) == 0)
		return;
	(void)buf_add_str(out, "    filter = [\n");
	for (size_t i = 0; i < filter_count(f); i++) {
		(void)buf_add_str(out, i == 0 ? "      " : ",\n      ");
		put_string(out, filter_rule_text(f, i));
	}
	(void)buf_add_str(out, "\n    ];\n");
}

static void put_sync(struct buf *out, const struct sync_options *s, uint16_t port)
{
	(void)buf_add_str(out, "  {\n");
	/* With a targetdir or a module the target was made from it. */
	put_section(out, SECTION_SYNC, s, "    ", s->targetdir != NULL || s->tcp.module != NULL ? "target" : NULL,
		    port);
	put_filter(out, s->filter);
	(void)buf_add_str(out, "    rsync = {\n");
	put_section(out, SECTION_RSYNC, s, "      ", NULL, port);
	(void)buf_add_str(out, "    };\n    ssh = {\n");
	put_section(out, SECTION_SSH, s, "      ", NULL, port);
	(void)buf_add_str(out, "    };\n");
	if (s->exec.command.n > 0) {
		(void)buf_add_str(out, "    exec = {\n");
		put_section(out, SECTION_EXEC, s, "      ", NULL, port);
		(void)buf_add_str(out, "    };\n");
	}
	if (s->tunnel.command.n > 0 && port == 0) {
		(void)buf_add_str(out, "    tunnel = {\n");
		put_section(out, SECTION_TUNNEL, s, "      ", NULL, 0);
		(void)buf_add_str(out, "    };\n");
	}
	(void)buf_add_str(out, "  }");
}

void config_dump_receiver(const struct receiver_options *r, struct buf *out)
{
	(void)buf_add_str(out, "receiver = {\n");
	put_section(out, SECTION_RECEIVER, r, "  ", NULL, 0);
	(void)buf_add_str(out, "  modules = (\n");
	for (size_t i = 0; i < r->n_modules; i++) {
		(void)buf_add_str(out, i > 0 ? ",\n    {\n" : "    {\n");
		put_section(out, SECTION_MODULE, &r->modules[i], "      ", NULL, 0);
		(void)buf_add_str(out, "    }");
	}
	(void)buf_add_str(out, "\n  );\n};\n");
}

static void dump_metrics(const struct metrics_options *m, struct buf *out)
{
	(void)buf_add_str(out, "\nmetrics = {\n");
	put_section(out, SECTION_METRICS, m, "  ", NULL, 0);
	(void)buf_add_str(out, "};\n");
}

static int dump(const struct config *c, size_t first, size_t end, uint16_t port, struct buf *out)
{
	(void)buf_add_str(out, "settings = {\n");
	put_section(out, SECTION_SETTINGS, &c->settings, "  ", NULL, 0);
	(void)buf_add_str(out, "};\n");
	if (end > first)
		(void)buf_add_str(out, "\nsync = (\n");
	for (size_t i = first; i < end; i++) {
		if (i > first)
			(void)buf_add_str(out, ",\n");
		put_sync(out, &c->syncs[i], port);
	}
	if (end > first)
		(void)buf_add_str(out, "\n);\n");
	return out->failed ? -1 : 0;
}

int config_dump(const struct config *c, struct buf *out)
{
	if (dump(c, 0, c->n_syncs, 0, out) < 0)
		return -1;
	if (c->receiver != NULL) {
		(void)buf_add_byte(out, '\n');
		config_dump_receiver(c->receiver, out);
	}
	if (c->metrics != NULL)
		dump_metrics(c->metrics, out);
	return out->failed ? -1 : 0;
}

int config_dump_receiver_only(const struct config *c, struct buf *out)
{
	if (dump(c, 0, 0, 0, out) == 0 && c->receiver != NULL)
		config_dump_receiver(c->receiver, out);
	return out->failed ? -1 : 0;
}

int config_dump_sync(const struct config *c, size_t i, uint16_t tunnel_port, struct buf *out)
{
	return dump(c, i, i + 1, tunnel_port, out);
}
