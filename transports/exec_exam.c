/* exec_exam.c - what `--doctor` looks at of the transport "exec": the program. It is not run: what it does is its own.
 */
#include "transports/exec_private.h"

void exec_examine(const struct sync_options *opt, struct exam *x)
{
	exam_begin(x, "program");
	exam_program(x, "exec.command", opt->exec.command.n == 0 ? "" : opt->exec.command.v[0], opt->exec.user);
}
