#!/bin/sh
# Checks the formatting of all C files against .clang-format; --fix rewrites them.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --fix ]; then
	mode='-i'
else
	mode='--dry-run --Werror'
fi
# shellcheck disable=SC2086 # words of the mode
find core transports config tests -name '*.[ch]' -print0 2>/dev/null | xargs -0 -r clang-format --style=file $mode
