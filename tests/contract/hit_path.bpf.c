/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest hit path in the kernel: what common/nat has to be good for. Frames of the realm 1;
 * hits go back out (XDP_TX), everything else passes untouched.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "common/nat/mss.h"
#include "common/nat/rewrite.h"
#include "hit_path.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HIT_PATH_SLOTS);
	__type(key, uint32_t);
	__type(value, struct nat_slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, uint32_t);
	__type(value, struct hit_path_config);
} config SEC(".maps");

SEC("xdp") int hit_path(struct xdp_md *context)
{
	uint8_t *frame = (uint8_t *)(long)context->data;
	const uint8_t *end = (const uint8_t *)(long)context->data_end;
	uint32_t zero = 0;
	const struct hit_path_config *now = bpf_map_lookup_elem(&config, &zero);
	struct nat_packet packet;
	struct nat_slot copy;

	if (!now || frame + ETHERNET > end || nat_get16(frame + 12) != nat_swap16(0x0800))
		return XDP_PASS;
	if (!nat_parse_plain(frame + ETHERNET, end, 1, &packet) || packet.ttl <= 1)
		return XDP_PASS;

	uint64_t hash = nat_slot_hash(&packet.tuple, &now->key);
	struct nat_slot_pair both = nat_slot_buckets(hash, HIT_PATH_SLOTS);
	for (unsigned i = 0; i < NAT_SLOT_CANDIDATES; i++) {
		uint32_t at = nat_slot_candidate(&both, i);
		struct nat_slot *slot = bpf_map_lookup_elem(&slots, &at);
		if (!slot || !nat_slot_read(slot, &packet.tuple, &copy))
			continue;
		nat_slot_seen(slot, &copy, now->now_ms, packet.tcp_flags);
		nat_apply_plain(frame + ETHERNET, end, &packet, &copy, NAT_TTL_DECREMENT);
		if (now->mss && packet.tcp_flags & NAT_TCP_SYN)
			nat_mss_clamp(frame + ETHERNET + NAT_IP_HEADER, end,
				      (uint16_t)now->mss, false);
		return XDP_TX;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
