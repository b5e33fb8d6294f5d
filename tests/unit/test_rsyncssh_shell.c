/* LINK: transports/rsyncssh_shell.c transports/rsyncssh_remote.c transports/twoway_state.c transports/remote_shell.c
 * core/pipes.c transports/ssh_words.c
 * core/look.c core/path.c core/err.c core/buf.c core/loop.c core/clock.c core/proc.c core/log.c core/safe_open.c
 * core/utf8.c core/twoway.c core/fsutil.c */
/* ROUNDS: if it is set, with other shells as well. What the shell at the target does while its owner puts symlinks in
 * the place of directories: just before each program that it runs, the directory that the command is about, or the
 * private one, becomes a symlink to one outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "transports/rsyncssh_remote.h"
#include "transports/rsyncssh_shell.h"

static const char attacks[] =
	"top=$1; real=$PATH; mkdir $top/bin\n"
	"for p in mv rm ln mkdir rmdir touch cp chmod chown find; do\n"
	"	at=$(command -v $p)\n"
	"	cat >$top/bin/$p <<-END\n"
	"		#!/bin/sh\n"
	"		PATH=$real\n"
	"		if [ -d $top/target/\\$SWAP ] && ! [ -L $top/target/\\$SWAP ] && mv $top/target/\\$SWAP "
	"$top/held; then\n"
	"			ln -s $top/outside/\\$SWAP $top/target/\\$SWAP; echo \\$SWAP >>$top/swapped\n"
	"		fi\n"
	"		exec $at \"\\$@\"\n"
	"	END\n"
	"	chmod 755 $top/bin/$p\n"
	"done\n"
	/* All that an attack could change. */
	"list() { (cd $top/outside && PATH=$real find . -printf '%p %y %s %m %C@ %l\\n'); }\n"
	"fill() {\n"
	"	for d in d e .own/b/d .own/s/d .own/t .old/d .old/.own; do mkdir -p $1/$d; done\n"
	"	for d in d e .own/b/d .own/s/d; do echo $2 >$1/$d/f; done\n"
	"}\n"
	"fs_own=.own; fs_how=fine; fs_stamp=-9; fs_fmt='%y %s %T@ %m %u %g %D'; fs_keep=; fs_dir=$top/target\n"
	"fill $top/outside secret; fill $top/new ours\n"
	"before=$(list)\n"
	"attack() {\n"
	"	swaps=$1; shift\n"
	"	for SWAP in $swaps; do\n"
	"		export SWAP\n"
	"		PATH=$real; rm -rf $top/target $top/held; cp -a $top/new $top/target; fs_have=\n"
	"		head=$(fs_head d/f)\n"
	"		PATH=$top/bin:$real\n"
	"		\"$@\" >>$top/said 2>&1\n"
	"		PATH=$real\n"
	"		[ \"$(list)\" = \"$before\" ] || { echo \"$* ($SWAP): $(list)\"; exit 1; }\n"
	"		if grep -rqs secret $top/target/d/ $top/held; then\n"
	"			[ -L $top/target/$SWAP ] || { echo \"$* ($SWAP): the secret is here\"; exit 1; }\n"
	"		fi\n"
	"	done\n"
	"}\n"
	"with_head() { c=$1; shift; $c d/f \"$head\" \"$@\"; }\n"
	"all() {\n"
	"	attack 'd e' fs_rename d/f e/g\n"
	"	attack d fs_rename d/f d/g\n"
	"	attack 'd e' fs_rename d e/g\n"
	"	attack d fs_rename d/f new/er/g\n"
	"	attack 'd e' fs_rename d/f e/new/g\n"
	"	attack 'd e' with_head fs_move e/g\n"
	"	attack 'd e' with_head fs_move e/new/g\n"
	"	attack 'd .own' with_head fs_delete\n"
	"	attack 'd .own' with_head fs_put\n"
	"	attack 'd .own' fs_put d/new ''\n"
	"	attack 'd .own' with_head fs_back\n"
	"	attack 'd .own' fs_back d/gone ''\n"
	"	attack 'd .own' fs_keep d/f d/kept\n"
	"	attack 'd .own' with_head fs_touch 1000\n"
	"	attack d fs_rmdir d/f\n"
	"	attack .own fs_begin\n"
	"	attack .own fs_backs\n"
	"	fs_kept=.old\n"
	"	attack 'd .own .old .old/d' with_head fs_delete\n"
	"	attack '.old .old/d' with_head fs_put\n"
	"	attack '.own .old .old/d' fs_store d/f head\n"
	"	attack .old fs_begin\n"
	"	fs_kept=.old/new\n"
	"	attack .old with_head fs_delete\n"
	"	fs_kept=\n"
	"	attack .own fs_clean\n"
	"}\n"
	"all\n"
	"for d in d e .own .old .old/d; do grep -qx $d $top/swapped || { echo \"$d was never exchanged\"; exit 1; }; "
	"done\n"
	/* It was exchanged between the look at what is above the name, and what follows. */
	"fs_parents() { :; }\n"
	"fs_is() { PATH=$real; mv $top/target/$SWAP $top/held; ln -s $top/outside/$SWAP $top/target/$SWAP; "
	"PATH=$top/bin:$real; }\n"
	"all\n"
	/* What it is for still works. */
	"unset -f fs_parents fs_is; . $top/prelude; PATH=$real; fs_have=\n"
	"SWAP=none; rm -rf $top/target; cp -a $top/new $top/target\n"
	"fs_rename d/f new/er/g && [ -f $top/target/new/er/g ] || { echo 'a rename'; exit 1; }\n"
	/* GNU's mv refuses that. */
	"ln $top/target/new/er/g $top/target/new/h\n"
	"if fs_rename new/er/g new/h >$top/said 2>&1; then\n"
	"	! [ -e $top/target/new/er/g ] || { echo 'to another name of the file'; exit 1; }\n"
	"	mv $top/target/new/h $top/target/new/er/g\n"
	"fi\n"
	"[ -f $top/target/new/er/g ] || { echo 'it is gone'; exit 1; }\n"
	"mv() { command busybox mv \"$@\"; }\n"
	"if command -v busybox >/dev/null; then\n"
	"	ln -f $top/target/new/er/g $top/target/new/h\n"
	"	fs_rename new/er/g new/h && ! [ -e $top/target/new/er/g ] || { echo 'by BusyBox'; exit 1; }\n"
	"	mv $top/target/new/h $top/target/new/er/g\n"
	"fi\n"
	"unset -f mv; rm -f $top/target/new/h\n"
	"fs_kept=.new/1; for n in 1 2; do\n"
	"	echo $n >$top/target/d/n; fs_delete d/n \"$(fs_head d/n)\" && ! [ -e $top/target/d/n ] || "
	"{ echo 'a backup'; exit 1; }\n"
	"done\n"
	"[ \"$(cd $top/target/.new/1/d && cat n n-9)\" = \"1${fs_nl}2\" ] || { echo 'the backups'; exit 1; }\n"
	"fs_kept=; head=$(fs_head e/f); fs_delete e/f \"$head\" && ! [ -e $top/target/e/f ] || { echo 'a deletion'; "
	"exit 1; }\n"
	"exit 0\n";

static void no_command_leaves_the_target(void **state)
{
	static const char *const shells[] = { "sh", "bash --posix", "busybox sh" };

	for (size_t i = 0; i < (getenv("ROUNDS") == NULL ? 1 : sizeof(shells) / sizeof(shells[0])); i++) {
		struct scratch s = { .next = 0 };
		char command[1400], word[32];
		char *text;

		(void)state;
		(void)snprintf(word, sizeof(word), "%.*s", (int)strcspn(shells[i], " "), shells[i]);
		(void)snprintf(command, sizeof(command), "command -v %s >/dev/null", word);
		if (system(command) != 0)
			continue;
		assert_int_equal(scratch_make(&s), 0);
		assert_true(asprintf(&text, "%s%s", remote_prelude, remote_twoway_prelude) > 0);
		assert_int_equal(scratch_write(scratch_path(&s, "prelude"), text), 0);
		free(text);
		assert_true(asprintf(&text, ". %s\n%s", scratch_path(&s, "prelude"), attacks) > 0);
		assert_int_equal(scratch_write(scratch_path(&s, "script"), text), 0);
		free(text);
		(void)snprintf(command, sizeof(command), "cd / && %s %s %s", shells[i], scratch_path(&s, "script"),
			       s.dir);
		if (system(command) != 0)
			fail_msg("with %s; what the commands said is in %s", shells[i], s.dir);
		assert_int_equal(scratch_remove(&s), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(no_command_leaves_the_target) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
