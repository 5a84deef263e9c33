# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The lab: a NAT cluster in network namespaces of this machine. Source it, or use ./lab.
#
#                                   mgmt network 192.168.255.0/24 (bridge mg0 in tbl)
#                        .----------------.----------------.-------------- tbl  .1
#                        |                |                |               conat-tablesvc :4790
#                    .11 |            .12 |            .13 |               watch.py
#     10.0.1.2        +--+--+          +--+--+          +--+--+
#  c1 ------.         | dp1 |          | dp2 |          | dp3 |  ... dp4   198.51.100.10, .11
#            \        +--+--+          +--+--+          +--+--+               srv
#             \  172.16.N.0/30 (in0, ri .1, dpN .2)        |                   |
#              ri -------+--------ECMP----+----------------+                   |
#             /          |   198.18.N.0/30 (out0, ro .1, dpN .2)               |
#            /           +--------ECMP----+----------------+----- ro ----------'
#  c2 ------'                                                  198.51.100.1
#     10.0.2.2        pool: 203.0.113.0/28
#
# Both routers hash each packet's addresses and ports, each on its own, so the two directions of a
# connection usually meet different dataplanes. No dataplane has a link to another one. All four
# namespaces exist from the start; a dataplane joins ECMP when its /readyz says 200 and leaves it
# when it does not, which watch.py polls over the management network (the part of BFD or BGP).
#
# With "--spread packet" they send each packet to the next dataplane in turn instead, the worst that
# a network can do: routes.py.
#
# MTU 1500 everywhere. Offloads stay on, as between virtual machines and their host: the dataplane
# sees super-packets and partial checksums. "--offloads off" has the end hosts send plain packets;
# spreading by packet does that too unless told "--offloads on", when a super-packet counts as one.
#
# Modes: conat (the real programs), nft (each dataplane namespace masquerades with nftables, without
# any shared state), forward (no NAT). The latter two are the benchmark's yardsticks.

LAB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB_ROOT=$(cd "$LAB_DIR/../.." && pwd)
LAB_STATES=${CONAT_LAB_STATES:-/run/conat-lab}
LAB_DATAPLANES_MAX=4
LAB_TABLE=192.168.255.1:4790
LAB_POOL=${CONAT_LAB_POOL:-203.0.113.0/28} # another one where two labs are linked
LAB_SERVER=198.51.100.10
LAB_SERVER2=198.51.100.11
LAB_NAMESPACES=(tbl ri ro c1 c2 srv dp1 dp2 dp3 dp4)

lab_fail() {
	printf 'lab: %s\n' "$*" >&2
	return 1
}

lab_ns() {
	printf '%s-%s' "$LAB" "$1"
}

lab_state() {
	printf '%s/%s' "$LAB_STATES" "$LAB"
}

# Field 22 of /proc/PID/stat tells a process from a later one with the same number.
lab_started() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	set -- ${stat##*) }
	printf '%s' "${20}"
}

lab_alive() {
	local pid=$1 started=$2
	# One that ended before it could be noted has no start.
	[[ $started && $(lab_started "$pid") == "$started" ]] && [[ $(sed -n 's/^State:\t\(.\).*/\1/p' \
		"/proc/$pid/status" 2>/dev/null) != Z ]]
}

# lab_spawn LABEL NS COMMAND...: runs in the background in a session of its own; remembers the pid.
lab_spawn() {
	local label=$1 ns=$2 state pid
	shift 2
	state=$(lab_state)
	setsid ip netns exec "$(lab_ns "$ns")" "$@" </dev/null >>"$state/log/$label.log" 2>&1 &
	pid=$!
	disown "$pid" 2>/dev/null || true
	printf '%s %s\n' "$pid" "$(lab_started "$pid")" >"$state/pid/$label"
}

# lab_signal LABEL SIGNAL: 0 when the process was there.
lab_signal() {
	local file pid started
	file=$(lab_state)/pid/$1
	[[ -r $file ]] || return 1
	read -r pid started <"$file"
	lab_alive "$pid" "$started" || return 1
	kill -s "$2" "$pid" 2>/dev/null
}

lab_running() {
	local file pid started
	file=$(lab_state)/pid/$1
	[[ -r $file ]] && read -r pid started <"$file" && lab_alive "$pid" "$started"
}

# Waits up to $3 seconds until "lab_running LABEL" is $2 (yes or no).
lab_await() {
	local until=$((SECONDS + $3))
	while ((SECONDS <= until)); do
		if lab_running "$1"; then
			[[ $2 == yes ]] && return 0
		else
			[[ $2 == no ]] && return 0
		fi
		sleep 0.05
	done
	return 1
}

# lab_ends LABEL SECONDS: SIGTERM, and SIGKILL when that was not enough, which is an error.
lab_ends() {
	local label=$1
	lab_signal "$label" CONT || return 0
	lab_signal "$label" TERM || return 0
	lab_await "$label" no "$2" && return 0
	lab_signal "$label" KILL || true
	lab_await "$label" no 3
	lab_fail "$label did not end within $2 s of SIGTERM and was killed"
}

lab_program() {
	local dir path
	for dir in "${CONAT_BUILD:-}" "$LAB_ROOT/build/release" "$LAB_ROOT/build/dev"; do
		[[ $dir ]] || continue
		for path in "$dir/$1" "$dir/dataplane/$1" "$dir/tablesvc/$1" "$dir/tablesvc/ctl/$1"; do
			[[ -x $path && -f $path ]] && { printf '%s' "$path"; return 0; }
		done
		[[ ${CONAT_BUILD:-} ]] && break
	done
	lab_fail "$1 is not built; run cmake --preset release && cmake --build --preset release"
}

lab_link() { # NS IF ADDRESS/LEN NS IF ADDRESS/LEN ("-" = none)
	ip link add "$2" netns "$(lab_ns "$1")" mtu 1500 type veth \
		peer name "$5" netns "$(lab_ns "$4")"
	ip -n "$(lab_ns "$4")" link set "$5" mtu 1500
	[[ $3 == - ]] || ip -n "$(lab_ns "$1")" address add "$3" dev "$2"
	[[ $6 == - ]] || ip -n "$(lab_ns "$4")" address add "$6" dev "$5"
	ip -n "$(lab_ns "$1")" link set "$2" up
	ip -n "$(lab_ns "$4")" link set "$5" up
}

lab_sysctl() {
	local ns=$1
	shift
	ip netns exec "$(lab_ns "$ns")" sysctl -qw "$@"
}

lab_topology() {
	local ns n
	for ns in "${LAB_NAMESPACES[@]}"; do
		ip netns add "$(lab_ns "$ns")"
		# Neither inherited filters nor IPv6 chatter; no rate limit where traceroute looks.
		lab_sysctl "$ns" net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \
			net.ipv4.icmp_ratelimit=0
		lab_sysctl "$ns" net.ipv6.conf.all.disable_ipv6=1 \
			net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
		ip -n "$(lab_ns "$ns")" link set lo up
	done
	lab_sysctl ri net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1
	lab_sysctl ro net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1

	lab_link c1 eth0 10.0.1.2/24 ri c1 10.0.1.1/24
	lab_link c2 eth0 10.0.2.2/24 ri c2 10.0.2.1/24
	lab_link srv eth0 $LAB_SERVER/24 ro srv 198.51.100.1/24
	# Subscribers reach the PCP server of the table service without a NAT between.
	lab_link tbl pcp0 172.16.0.2/30 ri tbl 172.16.0.1/30
	ip -n "$(lab_ns tbl)" route add 10.0.0.0/16 via 172.16.0.1
	ip -n "$(lab_ns srv)" address add $LAB_SERVER2/24 dev eth0
	ip -n "$(lab_ns c1)" route add default via 10.0.1.1
	ip -n "$(lab_ns c2)" route add default via 10.0.2.1
	ip -n "$(lab_ns srv)" route add default via 198.51.100.1

	ip -n "$(lab_ns tbl)" link add mg0 type bridge
	ip -n "$(lab_ns tbl)" address add 192.168.255.1/24 dev mg0
	ip -n "$(lab_ns tbl)" link set mg0 up
	for ((n = 1; n <= LAB_DATAPLANES_MAX; n++)); do
		lab_link "dp$n" mgmt0 "192.168.255.1$n/24" tbl "dp$n" -
		ip -n "$(lab_ns tbl)" link set "dp$n" master mg0
		lab_link "dp$n" in0 "172.16.$n.2/30" ri "dp$n" "172.16.$n.1/30"
		lab_link "dp$n" out0 "198.18.$n.2/30" ro "dp$n" "198.18.$n.1/30"
		ip -n "$(lab_ns "dp$n")" route add default via "198.18.$n.1"
		ip -n "$(lab_ns "dp$n")" route add 10.0.0.0/16 via "172.16.$n.1"
		if [[ $LAB_SPREAD == packet ]]; then
			ip -n "$(lab_ns ri)" rule add fwmark "$n" lookup $((100 + n))
			ip -n "$(lab_ns ri)" route add default via "172.16.$n.2" table $((100 + n))
			ip -n "$(lab_ns ro)" rule add fwmark "$n" lookup $((100 + n))
			ip -n "$(lab_ns ro)" route add default via "198.18.$n.2" table $((100 + n))
		fi
	done
	# What is meant for the pool and has no dataplane goes nowhere, rather than round and round.
	ip -n "$(lab_ns ri)" route add blackhole default
	ip -n "$(lab_ns ro)" route add blackhole "$(lab_pool_prefix)"
	if [[ $LAB_OFFLOADS == off ]]; then
		for ns in c1 c2 srv; do
			ip netns exec "$(lab_ns "$ns")" ethtool -K eth0 tso off gso off gro off \
				tx off sg off >/dev/null
		done
	fi
}

# What the outside router sends through the dataplanes.
lab_pool_prefix() {
	if [[ $LAB_MODE == forward ]]; then
		printf 10.0.0.0/16
	else
		printf %s $LAB_POOL
	fi
}

lab_config() {
	cat <<-END
	service:
	  listen: [ "$LAB_TABLE" ]
	  admin: "127.0.0.1:9464"
	  journal: none
	log: { target: "file:$(lab_state)/events.json" }
	capacity: { mappings: 200000, sessions: 200000, subscribers: 1000 }
	pools:
	  - name: lab
	    prefixes: [ $LAB_POOL ]
	realms:
	  - name: clients
	    id: 1
	    prefixes: [ 10.0.0.0/16 ]
	    pool: lab
	END
}

lab_service_start() {
	local program
	program=$(lab_program conat-tablesvc) || return 1
	lab_spawn tbl tbl "$program" --config "$(lab_state)/tablesvc.yaml"
	local i
	for ((i = 0; i < 100; i++)); do
		lab_running tbl || { lab_log tbl; lab_fail "conat-tablesvc ended at once"; return 1; }
		[[ $(ip netns exec "$(lab_ns tbl)" ss -Hltn "sport = :${LAB_TABLE##*:}") ]] && return 0
		sleep 0.05
	done
	lab_log tbl
	lab_fail "conat-tablesvc does not listen on $LAB_TABLE"
}

lab_log() {
	tail -n "${2:-15}" "$(lab_state)/log/$1.log" 2>/dev/null | sed "s/^/  $1: /" >&2
}

# Starts dataplane N and waits until both routers use it.
lab_dataplane_start() {
	local n=$1 program i
	((n >= 1 && n <= LAB_DATAPLANES_MAX)) || { lab_fail "no dataplane dp$n"; return 1; }
	! lab_running "dp$n" || { lab_fail "dp$n runs already"; return 1; }
	if [[ $LAB_MODE == conat ]]; then
		program=$(lab_program conat-dataplane) || return 1
		# shellcheck disable=SC2086
		lab_spawn "dp$n" "dp$n" "$program" --table $LAB_TABLE --inside in0 --outside out0 \
			--name "dp$n" --admin "192.168.255.1$n:9465" ${CONAT_LAB_DATAPLANE_OPTIONS:-}
	else
		lab_spawn "dp$n" "dp$n" python3 "$LAB_DIR/kernel_dataplane.py" --mode "$LAB_MODE" \
			--outside out0 --admin "192.168.255.1$n:9465"
	fi
	for ((i = 0; i < 200; i++)); do
		grep -qx "dp$n" "$(lab_state)/ecmp" 2>/dev/null && return 0
		lab_running "dp$n" || { lab_log "dp$n"; lab_fail "dp$n ended at once"; return 1; }
		sleep 0.05
	done
	lab_log "dp$n"
	lab_fail "dp$n did not become ready in 10 s"
}

# The lab goes when its owner does, however that ended.
lab_janitor() {
	local owner=$1 started
	started=$(lab_started "$owner") || { lab_fail "owner $owner does not run"; return 1; }
	setsid bash -c '
		. "$1"; LAB=$2; state=$(lab_state)
		while [[ -d $state ]]; do
			lab_alive "$3" "$4" || { lab_down; exit; }
			sleep 1
		done' janitor "$LAB_DIR/lab.sh" "$LAB" "$owner" "$started" \
		</dev/null >/dev/null 2>&1 &
	disown $! 2>/dev/null || true
}

# LAB, LAB_MODE, LAB_OFFLOADS, LAB_SPREAD, LAB_DATAPLANES, LAB_OWNER, LAB_CONFIG are set by the caller.
lab_up() {
	local state n tool
	((EUID == 0)) || { lab_fail "network namespaces need root"; return 1; }
	for tool in ip ss sysctl python3 ethtool nft; do
		command -v $tool >/dev/null || { lab_fail "$tool is missing; run deploy/install"; return 1; }
	done
	[[ $LAB =~ ^[a-z][a-z0-9-]{0,31}$ ]] ||
		{ lab_fail "bad name '$LAB': lower case letters, digits, '-', at most 32"; return 1; }
	state=$(lab_state)
	[[ ! -e $state ]] || { lab_fail "$LAB is up already"; return 1; }
	mkdir -p "$state/log" "$state/pid"
	printf 'LAB_MODE=%q\nLAB_OFFLOADS=%q\nLAB_SPREAD=%q\nCONAT_BUILD=%q\n' "$LAB_MODE" \
		"$LAB_OFFLOADS" "$LAB_SPREAD" "${CONAT_BUILD:-}" >"$state/settings"
	[[ ! $LAB_OWNER ]] || lab_janitor "$LAB_OWNER" || return 1
	lab_topology # plain: "||" would switch off the callers' set -e in it
	if [[ $LAB_MODE == conat ]]; then
		if [[ $LAB_CONFIG ]]; then
			cp "$LAB_CONFIG" "$state/tablesvc.yaml"
		else
			lab_config >"$state/tablesvc.yaml"
		fi
		lab_service_start || return 1
	fi
	lab_spawn watch tbl python3 -B "$LAB_DIR/watch.py" --lab "$LAB" --state "$state" \
		--pool "$(lab_pool_prefix)" --dataplanes $LAB_DATAPLANES_MAX --spread "$LAB_SPREAD"
	for ((n = 1; n <= LAB_DATAPLANES; n++)); do
		lab_dataplane_start $n || return 1
	done
}

# Removes everything, whatever state it is in; nothing left is no error.
lab_down() {
	local state file label ns pid i inode
	state=$(lab_state)
	# The watcher first, so that it does not work against us; then all by their pids.
	if [[ -d $state/pid ]]; then
		for label in watch dp1 dp2 dp3 dp4; do
			lab_signal "$label" CONT 2>/dev/null || true
			lab_signal "$label" TERM 2>/dev/null || true
		done
		for file in "$state"/pid/*; do
			[[ -e $file ]] || continue
			lab_ends "$(basename "$file")" 3 || true
		done
	fi
	for ns in "${LAB_NAMESPACES[@]}"; do
		[[ -e /run/netns/$(lab_ns "$ns") ]] || continue
		for ((i = 0; i < 20; i++)); do
			pid=$(ip netns pids "$(lab_ns "$ns")" 2>/dev/null) || break
			[[ $pid ]] || break
			# shellcheck disable=SC2086
			kill -s KILL $pid 2>/dev/null || true
			sleep 0.05
		done
		# A killed dataplane left its notes for the next one in this namespace; there is none.
		inode=$(stat -c %i "/run/netns/$(lab_ns "$ns")" 2>/dev/null) || inode=
		ip netns delete "$(lab_ns "$ns")" || true
		[[ ! $inode ]] || rm -rf "/run/conat/netns-$inode".{state,lock} \
			"/run/conat/embedded-$inode"
	done
	rm -rf "$state"
}

lab_status() {
	local state n line
	state=$(lab_state)
	printf 'lab %s, mode %s, spread by %s, state in %s\n' "$LAB" "$LAB_MODE" "$LAB_SPREAD" "$state"
	[[ $LAB_MODE != conat ]] || printf '  table service  %s\n' "$(lab_process tbl)"
	for ((n = 1; n <= LAB_DATAPLANES_MAX; n++)); do
		line=$(lab_process "dp$n")
		grep -qx "dp$n" "$state/ecmp" 2>/dev/null && line+=', in ECMP'
		printf '  dp%d            %s\n' "$n" "$line"
	done
	printf '  watcher        %s\n' "$(lab_process watch)"
}

lab_process() {
	local pid started
	[[ -r $(lab_state)/pid/$1 ]] || { printf 'not started'; return; }
	read -r pid started <"$(lab_state)/pid/$1"
	if lab_alive "$pid" "$started"; then
		printf 'pid %s, %s' "$pid" "$(sed -n 's/^State:\t. (\(.*\))/\1/p' "/proc/$pid/status")"
	else
		printf 'ended'
	fi
}
