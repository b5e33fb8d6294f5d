#!/bin/sh
# gcc's own analyzer over all sources (make check-analyzer), and clang's with more patience than in `make test`. Some minutes; what was
# looked at and is unchanged is not looked at again.
# NEEDS: nothing
set -eu
cd "$(dirname "$0")/../.."
make -j2 check-analyzer
exec make -j2 check-tidy TIDY_NODES=25000
