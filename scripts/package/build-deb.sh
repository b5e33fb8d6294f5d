#!/bin/sh
# Builds the Debian package of this tree with dpkg-buildpackage, from a copy below build/: build-deb.sh VERSION [OUTPUT-DIRECTORY]
set -eu
cd "$(dirname "$0")/../.."
version=${1:?a version}
out=${2:-build/deb}
if [ -z "${DEBEMAIL:-}" ]; then # docs/SECURITY.md sends who finds a fault to the Maintainer
	echo "build-deb: no DEBEMAIL: the package names a Maintainer that nobody can write to; set it, and DEBFULLNAME, before you give it away" >&2
fi
maintainer="${DEBFULLNAME:-The fansyncd authors} <${DEBEMAIL:-fansyncd@packages.example}>"
tree=$out/fansyncd-$version
rm -rf "$tree"
mkdir -p "$tree"
# What is in the tree, committed or not; without git all but what is built.
if git ls-files >/dev/null 2>&1; then
	git ls-files -z --cached --others --exclude-standard
else
	find . -path ./build -prune -o -type f -print0
fi | tar -c --null --ignore-failed-read -T - 2>/dev/null | tar -x -C "$tree"
cp -R scripts/package/debian "$tree/debian"
depends=$(sed -n "s/^build='\(.*\)'/\1/p" scripts/deps.sh | tr ' ' '\n' | grep -Ev '^(gcc|make|libc6-dev|rsync|openssh-client)$' |
	sed 's/^pkg-config$/pkg-config | pkgconf/; s/.*/ &,/')
when=$(date -R -u -d "@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}")
awk -v list="$depends" -v maintainer="$maintainer" \
	'/^@BUILD_DEPENDS@$/ { print list; next } { sub(/@MAINTAINER@/, maintainer); print }' \
	"$tree/debian/control.in" >"$tree/debian/control"
sed -e "s|@VERSION@|$version|" -e "s|@MAINTAINER@|$maintainer|" -e "s|@DATE@|$when|" "$tree/debian/changelog.in" >"$tree/debian/changelog"
rm "$tree/debian/control.in" "$tree/debian/changelog.in"
(cd "$tree" && MAKEFLAGS='' dpkg-buildpackage -b -us -uc)
ls -l "$out"/fansyncd_"$version"_*.deb
