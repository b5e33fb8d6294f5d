#!/bin/sh
# gcc's own analyzer over all sources (make check-analyzer). Some minutes; what was looked at and is unchanged is not looked at again.
# NEEDS: nothing
set -eu
cd "$(dirname "$0")/../.."
exec make -j2 check-analyzer
