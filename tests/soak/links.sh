#!/bin/sh
# Two hosts and what happens to the wire between them, by every transport, with several seeds. About 20 minutes.
set -eu
here=$(dirname "$0")
for seed in $(seq "${SEED:-1}" $((${SEED:-1} + ${SEEDS:-3} - 1))); do
	echo "# seed $seed"
	TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/fansyncd-soak.XXXXXX")
	export TESTDIR
	"$here/../churn/links.py" --seed "$seed" "$@"
	rm -rf "$TESTDIR"
done
