# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What was measured, its medians, and the tables of bench.sh. Needs: $work.
# A table's columns are the words of $CASES. The ratios in brackets are to the first, or to what $against has for a case.

declare -A value against
# shellcheck disable=SC2034 # of the parts
declare -A CPUS=([one]="one CPU" [two]="two CPUs")

add() { # CASE METRIC VALUE
	value[$1.$2]+="$3 "
}

middle() { # of the numbers in the arguments
	printf '%s\n' "$@" | sort -g | awk 'NF { v[++n] = $1 } END {
		if (n) print n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2; else print "-" }'
}

median() { # CASE METRIC
	# shellcheck disable=SC2086
	middle ${value[$1.$2]:-}
}

# The median of the rounds' ratios: what disturbs the machine for a round disturbs both.
paired() { # METRIC CASE OTHER
	local i a b ratios=()
	read -ra a <<<"${value[$2.$1]}"
	read -ra b <<<"${value[$3.$1]}"
	for i in "${!a[@]}"; do
		ratios+=("$(awk -v a="${a[i]}" -v b="${b[i]}" 'BEGIN { print a / b }')")
	done
	printf '%.2f' "$(middle "${ratios[@]}")"
}

ratio() { # A B
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}

largest() {
	printf '%s\n' "$@" | sort -g | tail -n 1
}

smallest() {
	printf '%s\n' "$@" | sort -g | head -n 1
}

row() { # TITLE METRIC FORMAT [WORDS of a last column]
	local case m base other
	printf '| %s |' "$1"
	for case in $CASES; do
		m=$(median "$case" "$2")
		other=${against[$case]:-${CASES%% *}}
		base=$(median "$other" "$2")
		if [ "$m" = - ]; then
			printf ' - |'
		elif [ "$case" = "$other" ] || [ "$base" = - ] || [[ $2 = cpu* ]]; then
			# shellcheck disable=SC2059
			printf " $3 |" "$m"
		else
			# shellcheck disable=SC2059
			printf " $3 (%s) |" "$m" "$(ratio "$m" "$base")"
		fi
	done
	[ $# -lt 4 ] || printf ' %s |' "$4"
	echo
}

table() { # TITLE-OF-COLUMN...
	printf '|'
	printf ' %s |' '' "$@"
	printf '\n|'
	printf -- '---|%.0s' '' "$@"
	echo
}

# What part_floor.sh found, for the goals: of its modes the best, ratios to its host without them. `-`: not measured.
readonly FLOOR_MODES="pass redirect verdict"

floor_best() { # largest|smallest METRIC WHAT BASE: floor-MODE-WHAT to floor-plain-BASE
	local mode ratios=()
	for mode in $FLOOR_MODES; do
		[ -z "${value[floor-$mode-$3.$2]:-}" ] || ratios+=("$(paired "$2" "floor-$mode-$3" "floor-plain-$4")")
	done
	[ ${#ratios[@]} -gt 0 ] && "$1" "${ratios[@]}"
}

floor_median() { # METRIC WHAT: of the mode where it is least
	local mode medians=()
	for mode in $FLOOR_MODES; do
		[ -z "${value[floor-$mode-$2.$1]:-}" ] || medians+=("$(median "floor-$mode-$2" "$1")")
	done
	[ ${#medians[@]} -gt 0 ] && smallest "${medians[@]}"
}

floor_ratios() { # largest|smallest METRIC SIZES STYLE: that of each size
	local size
	for size in ${3//,/ }; do floor_best "$1" "$2-$size" "$4" "$4"; done
}

# Rows of the one table of goals that ends the report. FLOOR: the same of part_floor.sh.
goal() { # WHAT VALUE REL LIMIT [FLOOR]
	local ok=no
	awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }" && ok=yes
	printf '| %s | %s | %s %s | %s | %s |\n' "$1" "$2" "${3/=/}=" "$4" "${5:--}" "$ok" >>"$work/goals"
}

report_head() { # what was run
	: >"$work/goals"
	echo "$(date -u +%F), Linux $(uname -r), $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) CPUs;"
	echo "$(nginx -v 2>&1 | cut -d/ -f2 | sed 's/^/nginx /'), HAProxy $(haproxy -v | awk 'NR == 1 { print $3 }'), sockmesh $("$BUILD/mesh-agent" --version | awk '{ print $NF }');"
	echo "$1, medians, in brackets the ratio to the first column."
}

# Prints the table of goals; false when one was not reached.
report_goals() {
	echo '| goal | measured | limit | floor | reached |'
	echo '|---|---|---|---|---|'
	cat "$work/goals"
	! grep -q '| no |$' "$work/goals"
}
