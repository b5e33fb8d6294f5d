#!/bin/sh
# install.sh install|uninstall: puts the built program and all that belongs to it below DESTDIR, or takes it away. The places
# come from the environment: the Makefile's `install` sets them. Its own list is the only one of what is installed.
set -eu
cd "$(dirname "$0")/.."
action=${1:?install or uninstall}
: "${DESTDIR=}" "${BUILD:?}" "${BINDIR:?}" "${MANDIR:?}" "${UNITDIR:?}" "${USERUNITDIR:?}" "${SYSCONFDIR:?}" "${TMPFILESDIR:?}"
: "${BASHCOMPDIR:?}" "${ZSHCOMPDIR:?}" "${FISHCOMPDIR:?}" "${DOCDIR:?}"
INSTALL=${INSTALL:-install}

file() { # MODE SOURCE DESTINATION
	if [ "$action" = install ]; then
		$INSTALL -D -m "$1" "$2" "$DESTDIR$3"
	else
		rm -f "$DESTDIR$3"
	fi
}

# The paths in it are those of this installation; a line @SANDBOX@ stands for the directives that units share.
text() { # MODE SOURCE DESTINATION
	if [ "$action" = install ]; then
		sed -e '/^@SANDBOX@$/ {' -e 'r scripts/systemd/sandbox.conf' -e 'd' -e '}' "$2" |
			sed -e "s|/usr/local/bin/fansyncd|$BINDIR/fansyncd|g" -e "s|/etc/fansyncd|$SYSCONFDIR/fansyncd|g" \
				>"$BUILD/install.text"
		file "$1" "$BUILD/install.text" "$3"
		rm -f "$BUILD/install.text"
	else
		file "$@"
	fi
}

file 0755 "$BUILD/fansyncd" "$BINDIR/fansyncd"
file 0755 scripts/lsyncd2fansyncd "$BINDIR/lsyncd2fansyncd"
for page in docs/man/*.[1-8]; do
	file 0644 "$page" "$MANDIR/man${page##*.}/$(basename "$page")"
done
for unit in scripts/systemd/*.service scripts/systemd/*.socket scripts/systemd/*.timer; do
	text 0644 "$unit" "$UNITDIR/$(basename "$unit")"
done
for unit in scripts/systemd/user/*; do
	text 0644 "$unit" "$USERUNITDIR/$(basename "$unit")"
done
text 0644 scripts/systemd/fansyncd.tmpfiles "$TMPFILESDIR/fansyncd.conf"
text 0644 scripts/systemd/fansyncd.logrotate "$SYSCONFDIR/logrotate.d/fansyncd"
file 0644 scripts/completions/fansyncd.bash "$BASHCOMPDIR/fansyncd"
file 0644 scripts/completions/fansyncd.zsh "$ZSHCOMPDIR/_fansyncd"
file 0644 scripts/completions/fansyncd.fish "$FISHCOMPDIR/fansyncd.fish"
# All pages lie in one directory there, with the examples below it: their links lead there.
page() { # SOURCE DESTINATION
	if [ "$action" = install ]; then
		sed -e 's#](\.\./README\.md#](README.md#g' -e 's#](docs/\([A-Z]\)#](\1#g' -e 's#](docs/examples#](examples#g' \
			-e 's#](\(docs/\)\{0,1\}\(recipes\|monitoring\)#](examples/\2#g' -e 's#](\.\./examples)#](..)#g' "$1" >"$BUILD/install.text"
		file 0644 "$BUILD/install.text" "$2"
		rm -f "$BUILD/install.text"
	else
		file 0644 "$@"
	fi
}
for doc in README.md docs/*.md; do
	page "$doc" "$DOCDIR/$(basename "$doc")"
done
for example in docs/examples/*.conf; do
	file 0644 "$example" "$DOCDIR/examples/$(basename "$example")"
done
for example in docs/examples/systemd/*; do
	file 0644 "$example" "$DOCDIR/examples/systemd/$(basename "$example")"
done
for example in docs/monitoring/*; do
	file 0644 "$example" "$DOCDIR/examples/monitoring/$(basename "$example")"
done
for recipe in docs/recipes/*.*; do
	case $recipe in
	*.md) page "$recipe" "$DOCDIR/examples/recipes/$(basename "$recipe")" ;;
	*.conf) file 0644 "$recipe" "$DOCDIR/examples/recipes/$(basename "$recipe")" ;;
	*) file 0755 "$recipe" "$DOCDIR/examples/recipes/$(basename "$recipe")" ;;
	esac
done

if [ "$action" = uninstall ]; then
	for d in "$DOCDIR/examples/recipes" "$DOCDIR/examples/monitoring" "$DOCDIR/examples/systemd" "$DOCDIR/examples" "$DOCDIR"; do
		[ ! -d "$DESTDIR$d" ] || rmdir --ignore-fail-on-non-empty "$DESTDIR$d"
	done
fi
# What an administrator has changed stays, and what he wrote is not taken away.
conf=$SYSCONFDIR/fansyncd.conf
if [ "$action" = uninstall ] || [ -e "$DESTDIR$conf" ]; then
	[ ! -e "$DESTDIR$conf" ] || echo "kept $DESTDIR$conf"
else
	file 0644 scripts/systemd/fansyncd.conf "$conf"
fi
