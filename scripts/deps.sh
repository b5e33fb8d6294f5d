#!/bin/sh
# Installs what is missing (Debian, as root), or says what to install: deps.sh build|all|bench|soak|package
# build: what `make` and `make run` need; all: what `make test` and the checks need as well; bench: what `make bench`
# compares with; soak: what `make soak` needs as well; package: what `make deb` needs.
set -eu
build='gcc libc6-dev make pkg-config libconfig-dev libmicrohttpd-dev libsqlite3-dev librsync-dev libssh2-1-dev libxxhash-dev zlib1g-dev libzstd-dev libssl-dev libseccomp-dev rsync openssh-client'
tests='acl attr bash binutils btrfs-progs busybox chromium-headless-shell clang clang-format clang-tidy cppcheck e2fsprogs fish git iproute2 libcap2-bin
	libclang-rt-dev libcmocka-dev lsyncd lua5.4 man-db mandoc mount openssh-server openssl procps proftpd-core proftpd-mod-crypto
	python3 shellcheck strace sudo systemd tcsh util-linux valgrind xfsprogs zsh'
package='debhelper dpkg-dev lintian'

case ${1:-all} in
build) wanted=$build ;;
package) wanted="$build $package" ;;
bench) wanted="$build e2fsprogs inotify-tools iproute2 lsyncd mount openssh-server python3 syncthing" ;;
all) wanted="$build $tests $package" ;;
soak) wanted="$build $tests $package debootstrap stress-ng" ;;
*)
	echo 'usage: deps.sh build|all|bench|soak|package' >&2
	exit 2
	;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
	cat >&2 <<-'EOF'
		This is no Debian; nothing was installed. fansyncd needs: a C compiler, GNU make, pkg-config,
		libconfig (with its headers), and at run time rsync and an ssh client. Its tests also need: clang,
		clang-format, clang-tidy, cppcheck, shellcheck, cmocka, python3, sshd, iproute2, procps, strace,
		valgrind, man, and the tools for ext4, xfs, btrfs, ACLs and extended attributes.
	EOF
	exit 0
fi

# Of the package prometheus the tests want one program, which needs nothing: 19 MB, where the package is 22 with eleven others,
# takes ten times as long, and starts a server.
fetch_promtool() {
	tools=$(dirname "$0")/../build/tools
	if command -v promtool >/dev/null 2>&1 || [ -x "$tools/promtool" ]; then return; fi
	place=$(mktemp -d)
	mkdir -p "$tools"
	if (cd "$place" && apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root download prometheus) &&
		dpkg-deb --fsys-tarfile "$place"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$tools/promtool.part"; then
		chmod +x "$tools/promtool.part"
		mv "$tools/promtool.part" "$tools/promtool"
	else
		echo 'promtool (package prometheus) could not be fetched: the metrics are not checked by it' >&2
	fi
	rm -rf "$place" "$tools/promtool.part"
}

missing=''
for p in $wanted; do
	# pkg-config may be a virtual package of pkgconf, which also provides the command
	case $p in pkg-config) ! command -v pkg-config >/dev/null 2>&1 || continue ;; esac
	case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || :) in
	installed) ;;
	*) missing="$missing $p" ;;
	esac
done
if [ -z "$missing" ]; then
	[ "${1:-all}" != all ] || fetch_promtool
	exit 0
fi

if [ "$(id -u)" != 0 ]; then
	echo "missing packages; as root: apt-get install$missing" >&2
	exit 0
fi
echo "installing:$missing"
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
# Not every release has it.
known() {
	case " $missing" in *' chromium-headless-shell'*) ;; *) return 0 ;; esac
	if ! apt-cache show chromium-headless-shell >/dev/null 2>&1; then
		echo 'chromium-headless-shell is not to be had: the page is not looked at in a browser' >&2
		missing=$(echo "$missing" | sed 's/ chromium-headless-shell//')
	fi
}
install_missing() {
	# shellcheck disable=SC2086 # a list of packages
	apt-get -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing
}
# A fresh image has no package lists, an old one stale lists.
apt-get -q -o Acquire::Retries=3 update || echo 'apt-get update failed; trying with the lists that are there' >&2
known
install_missing
[ "${1:-all}" != all ] || fetch_promtool
