#!/bin/sh
# The Debian package as `make deb` makes it, compiled with Debian's flags, on a clean system: a debootstrap of this release, from the
# mirror that apt is configured with. Installed with what it depends on, run, upgraded, removed, purged. As root; some minutes.
set -eu
cd "$(dirname "$0")/../.."
command -v debootstrap >/dev/null || {
	echo 'debootstrap is missing: install it' >&2
	exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-package.XXXXXX")
root=$work/root
trap 'umount -l "$root/proc" "$root/dev" 2>/dev/null || :; rm -rf "$work"' EXIT
# shellcheck disable=SC1091 # the system's
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# The first source of packages of this release that apt knows.
# shellcheck disable=SC2016 # apt-get's variables
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' | awk -v r="$release" '$2 == r { print $1; exit }')
version=$(make -s print-VERSION)

fail() {
	echo "FAILED: $*" >&2
	exit 1
}
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }

echo '-- the package'
scripts/package/build-deb.sh "$version" "$work/deb" >"$work/build.log" 2>&1 || {
	tail -30 "$work/build.log" >&2
	fail 'it is not built'
}
lintian --allow-root --fail-on error,warning "$work/deb/fansyncd_${version}_"*.changes || fail 'lintian'
dpkg-deb -R "$work/deb/fansyncd_${version}_$(dpkg --print-architecture).deb" "$work/older"
sed -i "s/^Version: .*/Version: 0.0.1/" "$work/older/DEBIAN/control"

echo "-- a clean $release"
debootstrap --variant=minbase "$release" "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || {
	tail -20 "$work/debootstrap.log" >&2
	fail 'debootstrap'
}
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
dpkg-deb -b "$work/older" "$root/tmp/older.deb" >/dev/null
cp "$work/deb/fansyncd_${version}_"*.deb "$root/tmp/newer.deb"

echo '-- installed'
inside apt-get -q -y --no-install-recommends install /tmp/older.deb >"$work/apt.log" 2>&1 || {
	tail -20 "$work/apt.log" >&2
	fail 'it is not installed'
}
inside fansyncd --version
inside mkdir -p /srv/a /srv/b
echo content >"$root/srv/a/file"
printf 'sync = ( { transport = "direct"; source = "/srv/a"; target = "/srv/b"; } );\n' >"$root/etc/fansyncd.conf"
inside fansyncd --sync-now --quiet
cmp "$root/srv/a/file" "$root/srv/b/file" || fail 'not mirrored'

echo '-- upgraded'
inside dpkg -i /tmp/newer.deb >/dev/null
# shellcheck disable=SC2016 # dpkg-query's variable
[ "$(inside dpkg-query -W -f '${Version}' fansyncd)" = "$version" ] || fail 'another version'
grep -q /srv/a "$root/etc/fansyncd.conf" || fail 'the configuration was overwritten'
! inside dpkg --verify fansyncd | grep -v ' c ' || fail 'files differ from the package'

echo '-- removed, and purged'
inside dpkg -r fansyncd >/dev/null
[ -e "$root/etc/fansyncd.conf" ] || fail 'the configuration is gone'
[ ! -e "$root/usr/bin/fansyncd" ] || fail 'the program is left'
inside dpkg -P fansyncd >/dev/null
left=$(find "$root/etc" "$root/usr" "$root/lib" "$root/var/lib" "$root/var/log" -name '*fansyncd*' ! -path '*/var/lib/apt/*')
[ -z "$left" ] || fail "left: $left"
[ -z "$(inside dpkg --audit)" ] || fail 'dpkg --audit'
echo 'ok'
