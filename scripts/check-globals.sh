#!/bin/sh
# Refuses mutable globals: two syncs of a kind live in one process. check-globals.sh OBJECT...
# Allowed: the log's sink; main's own state of the process.
set -eu
bad=0
for object; do
	case $object in
	*/core/log.o | */core/main.o) continue ;;
	esac
	found=$(objdump -t "$object" | awk '$3 == "O" && $4 ~ /^(\.bss|\.data)($|\.)/ && $4 !~ /^\.data\.rel\.ro/ { print $NF }
		/\*COM\*/ { print $NF }')
	if [ -n "$found" ]; then
		printf '%s: mutable global: %s\n' "$object" "$(printf '%s' "$found" | tr '\n' ' ')"
		bad=1
	fi
done
exit "$bad"
