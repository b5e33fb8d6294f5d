# Completion for fish: options, their words, and the names of syncs. It asks the program itself (--help, --help-config,
# --names), so that it knows what the installed version knows.

# Each option in --help: SET OPTION VALUE MODE. SET is mode, own (of a mode, or of "-": none in particular), place (VALUE
# arguments follow) or table (a key of the configuration); VALUE "-": none follows.
function __fansyncd_options
    $argv[1] --help 2>/dev/null | awk '
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
end

# The words that an option takes, one a line.
function __fansyncd_words
    if test "$argv[2]" = log
        printf '%s\n' all scarce Error Warn Normal Info Exec Event Record Filter Alarm Status Debug
    else
        $argv[1] --help-config 2>/dev/null | sed -n "s/^  $argv[2] *one of \([^;]*\).*/\1/p" | sed 's/, */\n/g' | sort -u
    end
end

# PROGRAM OPTION VALUE CURRENT CONFIG
function __fansyncd_value
    switch $argv[3]
        case NAME
            $argv[1] --names $argv[5..-1] 2>/dev/null
        case WORD TEXT
            __fansyncd_words $argv[1] $argv[2]
        case PATH FILE
            __fish_complete_path "$argv[4]"
    end
end

# The options that fit the mode in $argv[1] (empty: none is given yet), of the rows behind it.
function __fansyncd_fitting
    for row in $argv[2..-1]
        set -l part (string split ' ' -- $row)
        if test -z "$argv[1]"
            if test $part[1] != own -o $part[4] = -
                echo -- $part[2]
            end
        else if test $part[1] = table -o \( $part[1] = own -a $part[4] = "$argv[1]" \)
            echo -- $part[2]
        end
    end
end

function __fansyncd_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -l rows (__fansyncd_options $program)
    set -l waiting
    set -l value
    set -l mode
    set -l config
    set -l places 0

    for word in $words[2..-1]
        set -l part (string match -r -- '^\S+ --?'(string replace -r '^--?' '' -- $word | string escape --style=regex)' \S+ \S+$' $rows)
        set part (string split ' ' -- $part[1])
        if test -n "$waiting"
            set waiting
        else if test $places -gt 0
            set places (math $places - 1)
        else if not string match -q -- '-*' $word
            set config $word
        else if test "$part[1]" = place
            set places $part[3]
        else if test "$part[1]" = mode
            set mode $part[2]
        else if test -n "$part[3]" -a "$part[3]" != -
            set waiting (string replace -r '^--?' '' -- $word)
            set value $part[3]
        end
    end
    if test -n "$waiting"
        __fansyncd_value $program $waiting $value "$current" $config
    else if test $places -gt 0; or not string match -q -- '-*' "$current"
        __fish_complete_path "$current"
    else
        __fansyncd_fitting "$mode" $rows
    end
end

complete -c fansyncd -f -a '(__fansyncd_complete)'
