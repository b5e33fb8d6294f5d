#include "core/top.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/control.h"
#include "core/top_view.h"

#define ANSWER_NS (10 * NS_PER_S)
#define REPORT_MAX (8u * 1024 * 1024)
#define FRAME_MAX (4u * 1024 * 1024)
/* Bytes of one key: what follows an escape comes with it. */
#define KEY_BYTES 16u

struct screen {
	struct termios before;
	int signals; /* signalfd */
	unsigned width, height;
	bool color;
};

/* ---- asking ---- */

static void on_out(void *ctx, const char *data, size_t len)
{
	(void)buf_add(ctx, data, len);
}

/* The daemon's report into the view. -1 with the reason; an older daemon does not know the question. */
static int ask(const struct top_options *o, struct top_view *v, struct err *err)
{
	const char *const words[] = { "top", NULL };
	struct buf report;
	const struct control_client client = { .out = on_out, .ctx = &report };
	int code;

	buf_init(&report, REPORT_MAX);
	code = control_client_run(o->socket, 1, words, ANSWER_NS, &client, err);
	if (code == 0 && !top_view_read(v, report.data, report.len, clock_mono_ns()))
		code = err_set(err, ERR_PROTOCOL, "the daemon's report makes no sense: is it another version?");
	else if (code > 0)
		code = err_set(err, ERR_PROTOCOL, "the daemon does not understand the request: is it another version?");
	buf_done(&report);
	return code;
}

static int write_all(const char *data, size_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, errno, "standard output");
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

/* ---- without a terminal ---- */

static int run_plain(const struct top_options *o, struct top_view *v, struct err *err)
{
	struct timespec pause = { .tv_sec = o->interval_ns / NS_PER_S, .tv_nsec = o->interval_ns % NS_PER_S };

	for (;;) {
		struct buf text;
		int result;

		if (ask(o, v, err) < 0)
			return -1;
		buf_init(&text, REPORT_MAX);
		top_view_plain(v, &text);
		result = write_all(text.data, text.len, err);
		buf_done(&text);
		if (result < 0)
			return err->code == EPIPE ? 0 : -1; /* who reads has seen enough */
		if (o->interval_ns == 0)
			return 0;
		(void)ppoll(NULL, 0, &pause, NULL);
	}
}

/* ---- the terminal ---- */

static void measure(struct screen *s)
{
	struct winsize w = { 0 };

	s->width = 80;
	s->height = 24;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 && w.ws_row > 0) {
		s->width = w.ws_col;
		s->height = w.ws_row;
	}
	if (s->width < 20)
		s->width = 20;
}

static int enter(struct screen *s, struct err *err)
{
	/* The other screen, no cursor, no lines that wrap. */
	static const char begin[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
	struct termios raw;
	sigset_t set;

	if (tcgetattr(STDIN_FILENO, &s->before) < 0)
		return err_errno(err, errno, "standard input is no terminal");
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGWINCH);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(err, errno, "sigprocmask");
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return err_errno(err, errno, "signalfd");
	raw = s->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_iflag &= ~(tcflag_t)IXON;
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) < 0)
		return err_errno(err, errno, "the terminal");
	s->color = getenv("NO_COLOR") == NULL;
	measure(s);
	return write_all(begin, sizeof(begin) - 1, err);
}

static void leave(const struct screen *s)
{
	static const char end[] = "\033[?7h\033[?25h\033[?1049l";

	(void)write_all(end, sizeof(end) - 1, NULL);
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before);
	(void)close(s->signals);
}

static int draw(const struct screen *s, struct top_view *v, struct err *err)
{
	struct buf frame;
	int result;

	buf_init(&frame, FRAME_MAX);
	top_view_draw(v, s->width, s->height, s->color, &frame);
	result = write_all(frame.data, frame.len, err);
	buf_done(&frame);
	return result;
}

/* One key of what was read: an escape takes what belongs to it. */
static size_t key_length(const char *p, size_t n)
{
	size_t len = 2;

	if (p[0] != '\033' || n < 3 || (p[1] != '[' && p[1] != 'O'))
		return 1;
	while (len < n && len < KEY_BYTES && (p[len] < '@' || p[len] > '~'))
		len++;
	return len < n ? len + 1 : n;
}

static enum top_wish take_keys(struct top_view *v, unsigned page)
{
	char keys[256];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
	enum top_wish wish = TOP_NOTHING;

	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? TOP_NOTHING : TOP_QUIT;
	if (n == 0) /* poll said there was something: the terminal is gone */
		return TOP_QUIT;
	for (size_t at = 0; at < (size_t)n && wish != TOP_QUIT;) {
		size_t len = key_length(keys + at, (size_t)n - at);
		enum top_wish now = top_view_key(v, keys + at, len, page);

		wish = now == TOP_NOTHING ? wish : now;
		at += len;
	}
	return wish;
}

/* false: it is time to go. */
static bool take_signals(struct screen *s)
{
	struct signalfd_siginfo info;
	bool stay = true;

	while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			measure(s);
		else
			stay = false;
	}
	return stay;
}

/* 1: the next report is due; 0: something else happened; -1: to end. */
static int wait_for(struct screen *s, struct top_view *v, int64_t due_ns)
{
	struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = s->signals, .events = POLLIN } };
	int64_t left = due_ns - clock_mono_ns();
	int n = poll(p, 2, v->paused ? -1 : left <= 0 ? 0 : (int)(left / NS_PER_MS) + 1);

	if (n < 0)
		return errno == EINTR ? 0 : -1;
	if (n == 0)
		return 1;
	if (p[1].revents != 0 && !take_signals(s))
		return -1;
	if (p[0].revents != 0 && take_keys(v, s->height > 8 ? s->height - 8 : 1) == TOP_QUIT)
		return -1;
	return 0;
}

static int run_terminal(const struct top_options *o, struct top_view *v, struct err *err)
{
	int64_t interval = o->interval_ns > 0 ? o->interval_ns : NS_PER_S, due = clock_mono_ns() + interval;
	struct screen s = { .signals = -1 };
	int what, result;

	if (ask(o, v, err) < 0 || enter(&s, err) < 0)
		return -1;
	do {
		result = draw(&s, v, err);
		what = result < 0 ? -1 : wait_for(&s, v, due);
		if (what == 1) {
			struct err why = ERR_INIT;

			due = clock_mono_ns() + interval;
			v->notice = ask(o, v, &why) < 0 ? "the daemon does not answer: trying again" : NULL;
		}
	} while (what >= 0);
	leave(&s);
	return result;
}

int top_run(const struct top_options *o, struct err *err)
{
	struct top_view v;
	int result;

	(void)setlocale(LC_CTYPE, "");
	(void)signal(SIGPIPE, SIG_IGN);
	top_view_init(&v);
	result = isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1 ? run_terminal(o, &v, err)
									 : run_plain(o, &v, err);
	top_view_done(&v);
	return result;
}
