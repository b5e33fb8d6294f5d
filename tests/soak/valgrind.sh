#!/bin/sh
# Unit tests and the fuzzers' corpora under valgrind, which sees what the sanitizers of `make test` do not: bytes that are used before
# they were set, also in libraries. About 15 minutes; arguments: names of programs, as unit/test_buf or fuzz/fuzz_wire.
# What counts is what valgrind says, not whether the test goes well: 3.19 knows neither openat2 nor pidfd_open. Left out: those that are
# too slow for it.
set -eu
cd "$(dirname "$0")/../.."
build=$PWD/build/valgrind
slow='unit/test_local_ahead unit/test_rsyncssh_shell unit/test_confine unit/test_zstream unit/test_remote_shell unit/test_rsync_alive'
command -v valgrind >/dev/null || {
	echo 'skip: there is no valgrind'
	exit 77
}
make -s "BUILD=$build" CFLAGS='-O1 -g' tests
if [ $# -eq 0 ]; then
	for f in tests/unit/test_*.c tests/fuzz/fuzz_*.c; do
		f=${f#tests/}
		case " $slow " in *" ${f%.c} "*) ;; *) set -- "$@" "${f%.c}" ;; esac
	done
fi
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
chmod 755 "$TESTDIR"
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
failed=0
for name; do
	corpus=''
	case $name in fuzz/*) corpus="-r 0 tests/fuzz/corpus/${name#fuzz/fuzz_}" ;; esac
	# shellcheck disable=SC2086 # words
	valgrind -q --leak-check=no --num-callers=20 "$build/tests/$name" $corpus >"$TESTDIR/out" 2>&1 || echo "# $name fails there"
	if ! grep -q '^==.*\(uninitialised\|Invalid \|overlap\|free()\)' "$TESTDIR/out"; then
		echo "ok $name"
	else
		failed=1
		echo "not ok $name"
		sed 's/^/# /' "$TESTDIR/out" | tail -60
	fi
done
exit "$failed"
