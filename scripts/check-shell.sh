#!/bin/sh
# Runs shellcheck on every shell script of the tree, known by its first line; and compiles the Python ones.
set -eu
cd "$(dirname "$0")/.."
find .ci scripts tests -type f ! -path '*/corpus/*' | sort | while IFS= read -r f; do
	IFS= read -r first 2>/dev/null <"$f" || first=''
	case $first in
	'#!'*sh) printf 'sh %s\n' "$f" ;;
	'#!'*python3) printf 'py %s\n' "$f" ;;
	*) case $f in *.py) printf 'py %s\n' "$f" ;; esac ;;
	esac
done >"${TMPDIR:-/tmp}/scripts.$$"
trap 'rm -f "${TMPDIR:-/tmp}/scripts.$$"' EXIT
sed -n 's/^sh //p' "${TMPDIR:-/tmp}/scripts.$$" | xargs -r shellcheck --severity=style --external-sources --source-path=SCRIPTDIR
sed -n 's/^py //p' "${TMPDIR:-/tmp}/scripts.$$" | python3 -c '
import sys
bad = 0
for name in sys.stdin.read().split("\n"):
    if not name:
        continue
    try:
        with open(name, "rb") as f:
            compile(f.read(), name, "exec")
    except SyntaxError as e:
        print("%s:%s: %s" % (name, e.lineno, e.msg))
        bad = 1
sys.exit(bad)
'
