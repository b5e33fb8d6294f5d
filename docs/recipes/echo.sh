#!/bin/bash
# Says what happens, one line a change, in the log (lsyncd's lecho). As a skeleton for other scripts: five fields a record.
set -u
while IFS= read -r -d '' number && IFS= read -r -d '' operation && IFS= read -r -d '' type &&
	IFS= read -r -d '' path && IFS= read -r -d '' extra; do
	case $operation in
	create | modify | delete) printf '%s %s %q\n' "$operation" "$type" "$path" ;;
	move) printf 'move %s %q to %q\n' "$type" "$extra" "$path" ;;
	list) printf 'compare %q: this is all there is:\n' "$path" ;;
	entry | keep) printf '  %s %q\n' "$type" "$path" ;;
	listed) printf 'up to %s of anything else may go (record %s)\n' "$extra" "$number" ;;
	esac
done >&2
