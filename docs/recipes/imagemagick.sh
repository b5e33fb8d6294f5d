#!/bin/bash
# Keeps a small picture of each picture (lsyncd's limagemagick): TARGET/PATH is SOURCE/PATH, 400 pixels wide at most.
set -u
convert=${CONVERT:-convert}
failed=0

scale() { # PATH
	local to=$FANSYNCD_TARGET/$1
	if [[ $to -nt $FANSYNCD_SOURCE/$1 ]]; then return 0; fi
	mkdir -p -- "${to%/*}" && "$convert" "$FANSYNCD_SOURCE/$1" -resize '400x400>' "$to.new" && mv -f -- "$to.new" "$to"
}

while IFS= read -r -d '' number && IFS= read -r -d '' operation && IFS= read -r -d '' type &&
	IFS= read -r -d '' path && IFS= read -r -d '' _; do
	case $operation/$type in
	create/file | modify/file | entry/file) scale "$path" </dev/null ;;
	delete/*) rm -rf -- "$FANSYNCD_TARGET/$path" ;;
	*) true ;;
	esac && echo "$number done" || { echo "$number retry it could not be scaled"; failed=1; }
done
exit $failed
