#!/bin/sh
# Attackers at work for longer: tests/integration/attackers.py, which says with which transports. ATTACK_SECONDS (60); names of cases.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
TESTDIR=${TESTDIR:-$(mktemp -d)}
ATTACK_SECONDS=${ATTACK_SECONDS:-60}
export TESTDIR ATTACK_SECONDS
cd "$top"
ROUNDS=3 exec python3 tests/integration/attackers.py "$@"
