#!/bin/sh
# What the fuzzers' corpora reach (make fuzz-cover), a line each; it fails where one of them reaches too little.
# NEEDS: nothing
set -eu
cd "$(dirname "$0")/../.."
command -v clang >/dev/null || {
	echo 'skip: there is no clang'
	exit 77
}
exec make -j2 fuzz-cover
