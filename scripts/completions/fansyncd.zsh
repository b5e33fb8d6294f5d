#compdef fansyncd
# Completion for zsh: options, their words, and the names of syncs. It asks the program itself (--help, --help-config,
# --names), so that it knows what the installed version knows.

# Each option in --help: SET OPTION VALUE MODE. SET is mode, own (of a mode, or of "-": none in particular), place (VALUE
# arguments follow) or table (a key of the configuration); VALUE "-": none follows.
_fansyncd_options() {
	_call_program options ${(q)1} --help 2>/dev/null | awk '
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
		print -l all scarce Error Warn Normal Info Exec Event Record Filter Alarm Status Debug
	else
		_call_program words ${(q)1} --help-config 2>/dev/null |
			sed -n "s/^  $2 *one of \([^;]*\).*/\1/p" | sed 's/, */\n/g' | sort -u
	fi
}

_fansyncd_value() { # PROGRAM OPTION VALUE CONFIG
	local -a found

	case $3 in
	NAME)
		found=("${(@f)$(_call_program names ${(q)1} --names ${4:+${(q)4}} 2>/dev/null)}")
		_wanted names expl 'sync' compadd -a found
		;;
	WORD | TEXT)
		found=("${(@f)$(_fansyncd_words $1 $2)}")
		_wanted words expl $2 compadd -a found
		;;
	PATH | FILE) _files ;;
	*) _message -e numbers $2 ;;
	esac
}

_fansyncd() {
	local program=${(Q)words[1]} waiting mode config row name expl
	local -a parts found rows
	local -A sets values
	integer i places=0

	rows=("${(@f)$(_fansyncd_options $program)}")
	for row in $rows; do
		parts=(${=row})
		name=${${parts[2]#-}#-}
		sets[$name]=$parts[1]
		values[$name]=$parts[3]
	done
	for ((i = 2; i < CURRENT; i++)); do
		name=${${words[i]#-}#-}
		if [[ -n $waiting ]]; then
			waiting=
		elif ((places > 0)); then
			((places--))
		elif [[ $words[i] != -* ]]; then
			config=${(Q)words[i]/#\~\//$HOME/}
		elif [[ $sets[$name] == place ]]; then
			places=$values[$name]
		elif [[ $sets[$name] == mode ]]; then
			mode=--$name
		elif [[ ${values[$name]:--} != - ]]; then
			waiting=$name
		fi
	done
	if [[ -n $waiting ]]; then
		_fansyncd_value $program $waiting $values[$waiting] $config
	elif [[ $PREFIX == -*=* ]]; then
		name=${${PREFIX%%=*}#-}
		name=${name#-}
		compset -P '*='
		_fansyncd_value $program $name ${values[$name]:--} $config
	elif ((places > 0)) || [[ $PREFIX != -* ]]; then
		_files
	else
		for row in $rows; do
			parts=(${=row})
			if [[ -z $mode ]]; then
				[[ $parts[1] == own && $parts[4] != - ]] || found+=($parts[2])
			elif [[ $parts[1] == table || $parts[1] == own && $parts[4] == $mode ]]; then
				found+=($parts[2])
			fi
		done
		_wanted options expl option compadd -a found
	fi
}

_fansyncd "$@"
