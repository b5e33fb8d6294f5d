# fansyncd.bash - completion for bash: options, their words, and the names of syncs. It asks the program itself
# (--help, --help-config, --names), so that it knows what the installed version knows. It needs bash 4 and awk.
# shellcheck shell=bash

# Each option in --help: SET OPTION VALUE MODE. SET is mode, own (of a mode, or of "-": none in particular), place (VALUE
# arguments follow) or table (a key of the configuration); VALUE "-": none follows.
_fansyncd_options() {
	"$1" --help 2>/dev/null | awk '
		/^One dash/ { table = 1; next }
		table && /^  -/ {
			split($0, word, / +/)
			sub(/\[.*/, "", word[2])
			print "table", word[2], word[3] ~ /^[A-Z]+$/ ? word[3] : "-", "-"
		}
		table || !match($0, /^(usage:)? *(fansyncd)? */) || RLENGTH > 40 { next }
		{
			if (index(substr($0, 1, RLENGTH), "fansyncd"))
				mode = "-"
			row = substr($0, RLENGTH + 1)
			sub(/  .*/, "", row)
			gsub(/\|/, " ", row)
			n = split(row, word, / +/)
			inside = 0
			for (i = 1; i <= n; i++) {
				inside = inside || word[i] ~ /^\[/
				option = word[i]
				gsub(/[][.,]/, "", option)
				value = i < n ? word[i + 1] : ""
				gsub(/[][.,]/, "", value)
				if (option ~ /^-/ && inside)
					print "own", option, value ~ /^[A-Z]+$/ && word[i] !~ /\]/ ? value : "-", mode
				else if (option ~ /^--/)
					print "mode", option, "-", mode = option
				else if (option ~ /^-/) {
					for (places = 0; i + places < n && word[i + places + 1] ~ /^[A-Z]+$/;)
						places++
					print "place", option, places, "-"
				}
				if (word[i] ~ /\]/)
					inside = 0
			}
		}
	' | sort -u
}

# The words that an option takes, one a line.
_fansyncd_words() {
	if [[ $2 == log ]]; then
		printf '%s\n' all scarce Error Warn Normal Info Exec Event Record Filter Alarm Status Debug
	else
		"$1" --help-config 2>/dev/null | sed -n "s/^  $2 *one of \([^;]*\).*/\1/p" | sed 's/, */\n/g' | sort -u
	fi
}

# One candidate a line on standard input; those that begin with $1, quoted for the command line.
_fansyncd_reply() {
	local line

	COMPREPLY=()
	while IFS= read -r line; do
		[[ $line == "$1"* ]] && COMPREPLY+=("$(printf '%q' "$line")")
	done
}

_fansyncd_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_fansyncd_value() { # PROGRAM OPTION VALUE CURRENT CONFIG
	case $3 in
	NAME) _fansyncd_reply "$4" < <("$1" --names ${5:+"$5"} 2>/dev/null) ;;
	WORD | TEXT) _fansyncd_reply "$4" < <(_fansyncd_words "$1" "$2") ;;
	PATH | FILE) _fansyncd_files "$4" ;;
	*) COMPREPLY=() ;; # a number: nobody can guess it
	esac
}

_fansyncd() {
	local program=${COMP_WORDS[0]/#\~\//$HOME/} current=${COMP_WORDS[COMP_CWORD]}
	local options waiting='' mode='' config='' places=0 i word name set option value of
	local -A sets=() values=()

	options=$(_fansyncd_options "$program")
	while read -r set option value of; do
		name=${option#-}
		sets[${name#-}]=$set
		values[${name#-}]=$value
	done <<<"$options"
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		name=${word#-}
		name=${name#-}
		if [[ $word == = ]]; then # "-log=Exec" is three words to bash
			:
		elif [[ -n $waiting ]]; then
			waiting=''
		elif ((places > 0)); then
			((places--))
		elif [[ $word != -* ]]; then
			config=${word/#\~\//$HOME/}
		elif [[ ${sets[$name]:-} == place ]]; then
			places=${values[$name]}
		elif [[ ${sets[$name]:-} == mode ]]; then
			mode=--$name
		elif [[ ${values[$name]:--} != - ]]; then
			waiting=$name
		fi
	done
	if [[ -n $waiting ]]; then
		[[ $current == = ]] && current=''
		_fansyncd_value "$program" "$waiting" "${values[$waiting]}" "$current" "$config"
	elif ((places > 0)) || [[ $current != -* ]]; then
		_fansyncd_files "$current"
	else
		_fansyncd_reply "$current" < <(awk -v mode="$mode" '
			mode == "" ? $1 != "own" || $4 == "-" : $1 == "table" || $1 == "own" && $4 == mode { print $2 }
		' <<<"$options")
	fi
}
complete -F _fansyncd fansyncd
