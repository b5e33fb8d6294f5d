#!/bin/sh
# Shows fansyncd at work below a temporary directory: demo.sh PROGRAM. Nothing outside that directory is touched.
set -eu
program=$1
[ -x "$program" ] || {
	echo "demo: $program is not there; run make first" >&2
	exit 1
}
top=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-demo.XXXXXX")
# Names as the daemon will see them, wherever it runs.
top=$(cd "$top" && pwd -P)
conf=$top/demo.conf
daemon=''

stop() {
	[ -n "$daemon" ] || return 0
	kill "$daemon" 2>/dev/null || :
	pid=$daemon
	daemon=''
	wait "$pid" || {
		ended=$?
		echo "demo: the daemon ended with status $ended" >&2
		return "$ended"
	}
}
# shellcheck disable=SC2317 # called by the trap
finish() {
	status=$?
	trap - EXIT
	stop || [ "$status" != 0 ] || status=1
	if [ "$status" = 0 ]; then
		rm -rf "$top"
	else
		echo "demo: failed; the log of the daemon, also in $top/daemon.log:" >&2
		tail -n 30 "$top/daemon.log" 2>/dev/null >&2 || :
	fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() {
	printf '\n== %s\n' "$*"
}
show() {
	printf '$ %s\n' "$*"
	"$@"
}
# The barrier: returns when all that was changed before it is on the targets.
arrived() {
	"$program" --wait --timeout 60 "$conf"
	diff -r --no-dereference "$top/source" "$top/target"
	diff -r --no-dereference "$top/source" "$top/copy"
	echo "source and targets are equal"
}
# A port of this host that nobody listens on.
free_port() {
	port=$((20000 + $$ % 20000))
	while grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null; do
		port=$((port + 1))
	done
	echo "$port"
}

mkdir -p "$top/source/docs" "$top/target" "$top/copy" "$top/state" "$top/keys"
# As "openssl rand -hex 32" does. The sender and the receiver hold the same key; here they are one host.
(umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$top/keys/demo.key")
port=$(free_port)
printf 'hello\n' >"$top/source/hello.txt"
printf 'one\n' >"$top/source/docs/one.txt"
cat >"$conf" <<EOF
settings = {
	nodaemon      = true;
	stateDir      = "$top/state";
	controlSocket = "$top/control.sock";
};

sync = (
	{
		name      = "demo";
		transport = "tcp";
		source    = "$top/source";
		host      = "127.0.0.1";
		port      = $port;
		module    = "demo";
		key       = "$top/keys/demo.key";
		compress  = true;
	},
	{
		name      = "copy";
		transport = "rsync";
		source    = "$top/source";
		target    = "$top/copy";
		delay     = 0.1;
		rsync     = { archive = true; };
	}
);

receiver = {
	listen  = [ "127.0.0.1:$port" ];
	keys    = "$top/keys";
	modules = ( { name = "demo"; path = "$top/target"; allow = [ "demo" ]; } );
};
EOF

say "the configuration, $conf: one source, to a receiver of our own and by rsync"
cat "$conf"

say "starting the daemon"
show "$program" --version
"$program" -nodaemon "$conf" >"$top/daemon.log" 2>&1 &
daemon=$!
# Until its socket is there, --wait says "no daemon" (3) at once; then it returns when the first reconcile is over.
deadline=$(($(date +%s) + 60))
while :; do
	result=0
	answer=$("$program" --wait --timeout 60 "$conf" 2>&1) || result=$?
	[ "$result" = 3 ] || break
	if ! kill -0 "$daemon" 2>/dev/null || [ "$(date +%s)" -gt "$deadline" ]; then
		break
	fi
done
[ "$result" = 0 ] || {
	echo "$answer" >&2
	exit 1
}
arrived
show ls -lR "$top/target"

say "a file is created"
printf 'two\n' >"$top/source/docs/two.txt"
arrived
show cat "$top/target/docs/two.txt"

say "a file is edited"
printf 'hello again\n' >"$top/source/hello.txt"
arrived
show cat "$top/target/hello.txt"

say "a directory is renamed"
mv "$top/source/docs" "$top/source/papers"
arrived
show ls "$top/target" "$top/target/papers"

say "a file is deleted"
rm "$top/source/papers/one.txt"
arrived
show ls "$top/target/papers"

say "what the daemon says of itself"
show "$program" --status "$conf"

say "stopping the daemon (SIGTERM)"
stop
tail -n 5 "$top/daemon.log"

cat <<'EOF'

== that was all of it; how to go on

  sudo make install                      program, manual pages, systemd unit, /etc/fansyncd.conf to edit
  fansyncd --help-config                 every key of the configuration
  fansyncd --check /etc/fansyncd.conf    says what is wrong in it, and what it means
  fansyncd --sync-now /etc/fansyncd.conf make all targets equal once, and end
  systemctl enable --now fansyncd        from now on, and after every boot
  fansyncd --status                      how it is going

EOF
