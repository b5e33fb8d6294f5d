#!/bin/sh
# Checks the manual pages with mandoc: everything that it has to say, but for the length of lines in the source.
set -eu
cd "$(dirname "$0")/.."
said=$(mandoc -T lint -W style docs/man/*.[1-8] | grep -v 'STYLE: input text line longer than' || :)
[ -z "$said" ] || {
	printf '%s\n' "$said" >&2
	exit 1
}
# One page each for the program and the configuration, by the names that they refer to each other with.
for page in docs/man/*.[1-8]; do
	grep -ho '^\.BR fansyncd[.a-z]* ([1-8])' "$page" | sed 's/^.BR \(.*\) (\(.\))/\1.\2/' | sort -u | while IFS= read -r name; do
		[ -e "docs/man/$name" ] || {
			echo "$page: refers to $name, which there is not" >&2
			exit 1
		}
	done
done
