#!/bin/sh
# Runs libFuzzer programs for FUZZ_SECONDS each, on a copy of their corpus: fuzz.sh BUILD tests/fuzz/fuzz_NAME.c...
# New inputs stay in BUILD/corpus/NAME; one that crashes is left in BUILD/corpus and named.
set -eu
build=$1
shift
[ $# -gt 0 ] || {
	echo 'no fuzz targets in tests/fuzz' >&2
	exit 1
}
failed=''
for src; do
	base=$(basename "$src" .c)
	name=${base#fuzz_}
	corpus=$build/corpus/$name
	mkdir -p "$corpus"
	seeds=''
	[ ! -d "tests/fuzz/corpus/$name" ] || seeds=tests/fuzz/corpus/$name
	dict=''
	[ ! -f "tests/fuzz/$name.dict" ] || dict=-dict=tests/fuzz/$name.dict
	echo "== $name: ${FUZZ_SECONDS:-60} s"
	"$build/tests/fuzz/$base" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 \
		-artifact_prefix="$build/corpus/$name-" -print_final_stats=1 -verbosity=0 \
		${dict:+"$dict"} "$corpus" ${seeds:+"$seeds"} || failed="$failed $name"
done
[ -z "$failed" ] || {
	echo "failed:$failed" >&2
	exit 1
}
