#!/bin/sh
# Compiles bench_changeset.c by its LINK comment, and runs it.
set -eu
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck disable=SC2046 # one word a source
"${CC:-cc}" -std=gnu11 -D_GNU_SOURCE -I. -O2 -o "$scratch/bench" tests/bench/bench_changeset.c \
	$(sed -n '1,/\*\//p' tests/bench/bench_changeset.c | grep -o 'core/[a-z_]*\.c')
"$scratch/bench"
