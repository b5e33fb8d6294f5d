#!/bin/sh
# Writes the make rules that link test programs, from the LINK, LIBS and WRAP comments in their first lines. LINK: everything is
# all of the program.
# test-rules.sh BUILD TEST.c... -- FUZZ.c...
# shellcheck disable=SC2016 # make expands these, not the shell
set -eu
build=$1
shift
# The words of the header comments of one kind; each may go over several lines.
header() {
	awk -v key="$1:" '
		NR > 40 { exit }
		!inside { at = index($0, "/* " key); if (!at) next; inside = 1; $0 = substr($0, at + 3 + length(key)) }
		inside { end = index($0, "*/"); print end ? substr($0, 1, end - 1) : $0; if (end) inside = 0 }
	' "$2" | tr '\n*' '  '
}
driver=''
link='$(LINK_TEST)'
libs=' -lcmocka -lm'
for src; do
	if [ "$src" = -- ]; then
		driver=' $(FUZZ_DRIVER)'
		link='$(LINK_FUZZ)'
		libs=' -lm'
		continue
	fi
	bin=$build/${src%.c}
	objects=$build/obj/${src%.c}.o
	for dep in $(header LINK "$src"); do
		case $dep in
		everything) objects="$objects \$(OBJ)" ;;
		*) objects="$objects $build/obj/${dep%.c}.o" ;;
		esac
	done
	wrap=''
	for name in $(header WRAP "$src"); do
		wrap="$wrap -Wl,--wrap=$name"
	done
	own_libs=$(header LIBS "$src")
	printf '%s: %s%s\n' "$bin" "$objects" "$driver"
	printf '\t$(call say,LINK,$@)\n\t@mkdir -p $(@D)\n'
	printf '\t$(Q)%s -o $@ $(filter %%.o,$^)%s %s%s\n\n' "$link" "$wrap" "$own_libs" "$libs"
done
