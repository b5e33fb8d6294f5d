#!/bin/sh
# Both ways between three hosts, with a delay and without one, several times: edits within milliseconds of each other are
# decided by which of the hosts' runs meet, which one run shows a few of. Needs root.
set -eu
here=$(dirname "$0")
TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
export TESTDIR
trap 'rm -rf "$TESTDIR"' EXIT INT TERM
for turn in $(seq "${TURNS:-5}"); do
	echo "# turn $turn"
	"$here/../integration/maxscale_twoway.py"
done
