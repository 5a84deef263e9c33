/* SPDX-License-Identifier: Apache-2.0 */
#include "tablesvc/config_schema.h"

#include <stddef.h>
#include "common/wire/wire.h"

#define MS(seconds) ((seconds)*1000u)
#define DAY 86400u
#define AT(field) .offset = offsetof(struct config, field)
#define POOL(field) .offset = offsetof(struct config_pool, field)
#define REALM(field) .offset = offsetof(struct config_realm, field)
#define STATIC(field) .offset = offsetof(struct config_static, field)
#define PCP_LISTEN(field) .offset = offsetof(struct config_pcp_listen, field)
#define REDIRECT(field) .offset = offsetof(struct config_redirect, field)

static const struct config_key tls_keys[] = {
    {"certificate", CONFIG_TEXT, AT(tls.certificate), .max = 256},
    {"key", CONFIG_TEXT, AT(tls.key), .max = 256},
    {"ca", CONFIG_TEXT, AT(tls.ca), .max = 256},
    {NULL},
};

static const struct config_key service_keys[] = {
    {"listen", CONFIG_LIST_INLINE, AT(listen), .min = 1, .max = CONFIG_LISTEN_MAX,
     .item = CONFIG_LISTEN, .count_offset = offsetof(struct config, n_listen),
     .item_size = CONFIG_ADDRESS_TEXT_MAX},
    {"admin", CONFIG_ADMIN, AT(admin_listen)},
    {"tls", CONFIG_MAP, .keys = tls_keys},
    {"journal", CONFIG_JOURNAL, AT(journal)},
    {NULL},
};

static const struct config_key log_keys[] = {
    {"blocks", CONFIG_BOOL, AT(log.blocks)},
    {"sessions", CONFIG_BOOL, AT(log.sessions)},
    {"destinations", CONFIG_BOOL, AT(log.destinations)},
    {"target", CONFIG_LOG_TARGET, AT(log.target)},
    {"format", CONFIG_LOG_FORMAT, AT(log.format)},
    {NULL},
};

/* Handles have 32 bits of slot; memory is allocated at start, so the limits are what one machine
 * has. */
static const struct config_key capacity_keys[] = {
    {"mappings", CONFIG_U32, AT(capacity.mappings), 64, 1u << 27},
    {"sessions", CONFIG_U32, AT(capacity.sessions), 64, 1u << 27},
    {"subscribers", CONFIG_U32, AT(capacity.subscribers), 1, 1u << 24},
    {"fragments", CONFIG_U32, AT(capacity.fragments), 64, 1u << 20},
    {NULL},
};

static const struct config_key lease_keys[] = {
    {"duration", CONFIG_DURATION, AT(lease_ms), 200, MS(300)},
    {"heartbeat", CONFIG_DURATION, AT(heartbeat_ms), 50, MS(60)},
    {"grace", CONFIG_DURATION, AT(grace_ms), 0, MS(DAY)},
    {"margin", CONFIG_DURATION, AT(margin_ms), 10, MS(60)},
    {NULL},
};

static const struct config_key timers_keys[] = {
    {"udp", CONFIG_DURATION, AT(timers.udp), MS(1), MS(DAY)},
    {"udp_dns", CONFIG_DURATION, AT(timers.udp_dns), MS(1), MS(DAY)},
    {"icmp", CONFIG_DURATION, AT(timers.icmp), MS(1), MS(DAY)},
    {"tcp_established", CONFIG_DURATION, AT(timers.tcp_established), MS(1), MS(14 * DAY)},
    {"tcp_opening", CONFIG_DURATION, AT(timers.tcp_opening), MS(1), MS(DAY)},
    {"tcp_closing", CONFIG_DURATION, AT(timers.tcp_closing), MS(1), MS(DAY)},
    {"other", CONFIG_DURATION, AT(timers.other), MS(1), MS(DAY)},
    {"hold_down", CONFIG_DURATION, AT(hold_down_ms), 0, MS(DAY)},
    {"hold_down_at_start", CONFIG_DURATION, AT(hold_down_at_start_ms), 0, MS(DAY)},
    {"negative", CONFIG_DURATION, AT(negative_ttl_ms), 0, 1000},
    {NULL},
};

static const struct config_key limits_keys[] = {
    {"blocks", CONFIG_U32, AT(limits.blocks), 1, 1024},
    {"ports", CONFIG_U32, AT(limits.ports), 0, 1u << 24},
    {"sessions", CONFIG_U32, AT(limits.sessions), 1, 1u << 27},
    {"per_mapping", CONFIG_U32, AT(limits.per_mapping), 1, 1u << 27},
    {"creations_per_second", CONFIG_U32, AT(limits.creations_per_second), 0, 1000000},
    {NULL},
};

static const struct config_key behaviour_keys[] = {
    {"inbound_refresh", CONFIG_BOOL, AT(inbound_refresh)},
    {"hairpinning", CONFIG_BOOL, AT(hairpinning)},
    {"mss_clamp", CONFIG_MSS, AT(mss_clamp)},
    {NULL},
};

static const struct config_key pending_keys[] = {
    {"timeout", CONFIG_DURATION, AT(pending.timeout_ms), 10, MS(60)},
    {"packets", CONFIG_U32, AT(pending.packets), 1, 1u << 20},
    {"per_flow", CONFIG_U32, AT(pending.per_flow), 1, 1024},
    {NULL},
};

static const struct config_key dataplanes_keys[] = {
    {"batch", CONFIG_U32, AT(batch_max), 1, WIRE_BATCH_MAX},
    {"inflight", CONFIG_U32, AT(inflight_max), 1, WIRE_INFLIGHT_MAX},
    {"pending", CONFIG_MAP, .keys = pending_keys},
    {"fragment_timeout", CONFIG_DURATION, AT(fragment_timeout_ms), MS(2), MS(120)},
    {"icmp_errors_per_second", CONFIG_U32, AT(icmp_errors_per_second), 0, 1000000},
    {"icmp_errors_outside", CONFIG_BOOL, AT(icmp_errors_outside)},
    {NULL},
};

static const struct config_key filtering_keys[] = {
    {"udp", CONFIG_FILTERING, POOL(filtering_udp)},
    {"tcp", CONFIG_FILTERING, POOL(filtering_tcp)},
    {NULL},
};

static const struct config_key pool_keys[] = {
    {"name", CONFIG_NAME, POOL(name), .required = true},
    {"prefixes", CONFIG_LIST, POOL(prefixes), 1, CONFIG_PREFIXES_MAX, true, .item = CONFIG_PREFIX,
     .count_offset = offsetof(struct config_pool, n_prefixes),
     .item_size = sizeof(struct config_prefix)},
    {"ports", CONFIG_PORTS, POOL(port_first)},
    {"block_size", CONFIG_U16, POOL(block_size), 64, 4096},
    {"filtering", CONFIG_MAP, .keys = filtering_keys},
    {"parity", CONFIG_BOOL, POOL(parity)},
    {"low_ports", CONFIG_BOOL, POOL(low_ports)},
    {"pooling", CONFIG_POOLING, POOL(pooling)},
    {"fallback", CONFIG_FALLBACK, POOL(fallback)},
    {"mode", CONFIG_MODE, POOL(mode)},
    {"ports_per_subscriber", CONFIG_U16, POOL(ports_per_subscriber), 0, 64512},
    {"dynamic_overflow", CONFIG_U16, POOL(dynamic_overflow), 0, 90},
    {"warn_above", CONFIG_U16, POOL(warn_above), 0, 100},
    {"protocols", CONFIG_LIST_INLINE, POOL(protocols), 0, CONFIG_PROTOCOLS_MAX,
     .item = CONFIG_BY_ADDRESS, .count_offset = offsetof(struct config_pool, n_protocols),
     .item_size = sizeof(uint8_t)},
    {NULL},
};

static const struct config_key realm_keys[] = {
    {"name", CONFIG_NAME, REALM(name), .required = true},
    {"id", CONFIG_REALM_ID, REALM(id), 1, NAT_REALM_MAX},
    {"prefixes", CONFIG_LIST, REALM(prefixes), 1, CONFIG_PREFIXES_MAX, true, .item = CONFIG_PREFIX,
     .count_offset = offsetof(struct config_realm, n_prefixes),
     .item_size = sizeof(struct config_prefix)},
    {"identity", CONFIG_LIST, REALM(identity), 0, CONFIG_PREFIXES_MAX, .item = CONFIG_PREFIX,
     .count_offset = offsetof(struct config_realm, n_identity),
     .item_size = sizeof(struct config_prefix)},
    {"pool", CONFIG_POOL_NAME, REALM(pool), .required = true},
    {NULL},
};

static const struct config_key static_keys[] = {
    {"realm", CONFIG_REALM_INSIDE, STATIC(realm), .required = true},
    {"protocol", CONFIG_STATIC_PROTOCOL, STATIC(protocol)},
    {"external", CONFIG_STATIC_ENDPOINT, STATIC(external), .required = true},
    {"internal", CONFIG_STATIC_ENDPOINT, STATIC(internal), .required = true},
    {NULL},
};

static const struct config_key redirect_keys[] = {
    {"name", CONFIG_NAME, REDIRECT(name), .required = true},
    {"from_realm", CONFIG_REALM_ANY, REDIRECT(from_realm), .required = true},
    {"protocol", CONFIG_PROTOCOL, REDIRECT(protocol), .required = true},
    {"destination", CONFIG_ENDPOINT, REDIRECT(destination), .required = true},
    {"to_realm", CONFIG_REALM_ANY, REDIRECT(to_realm), .required = true},
    {"to", CONFIG_ENDPOINT, REDIRECT(to), .required = true},
    {"pool", CONFIG_POOL_NAME, REDIRECT(pool), .required = true},
    {NULL},
};

static const struct config_key pcp_listen_keys[] = {
    {"realm", CONFIG_REALM_INSIDE, PCP_LISTEN(realm), .required = true},
    {"address", CONFIG_ENDPOINT, PCP_LISTEN(address), .required = true},
    {NULL},
};

static const struct config_key pcp_keys[] = {
    {"listen", CONFIG_LIST, AT(pcp.listen), 0, CONFIG_PCP_LISTEN_MAX, .keys = pcp_listen_keys,
     .count_offset = offsetof(struct config, pcp.n_listen),
     .item_size = sizeof(struct config_pcp_listen)},
    {"mappings", CONFIG_U32, AT(pcp.capacity), 1, 1u << 24},
    {"per_subscriber", CONFIG_U32, AT(pcp.per_subscriber), 0, 65535},
    {"lifetime_min", CONFIG_DURATION, AT(pcp.lifetime_min_ms), MS(1), MS(DAY)},
    {"lifetime_max", CONFIG_DURATION, AT(pcp.lifetime_max_ms), MS(1), MS(7 * DAY)},
    {NULL},
};

/* Read in this order, whatever the file's: what is referred to by name comes first. */
const struct config_key config_keys[] = {
    {"service", CONFIG_MAP, .keys = service_keys},
    {"log", CONFIG_MAP, .keys = log_keys},
    {"capacity", CONFIG_MAP, .keys = capacity_keys},
    {"lease", CONFIG_MAP, .keys = lease_keys},
    {"timers", CONFIG_MAP, .keys = timers_keys},
    {"limits", CONFIG_MAP, .keys = limits_keys},
    {"behaviour", CONFIG_MAP, .keys = behaviour_keys},
    {"dataplanes", CONFIG_MAP, .keys = dataplanes_keys},
    {"pools", CONFIG_LIST, AT(pools), 1, CONFIG_POOLS_MAX, true, .keys = pool_keys,
     .count_offset = offsetof(struct config, n_pools), .item_size = sizeof(struct config_pool)},
    {"realms", CONFIG_LIST, AT(realms), 1, CONFIG_REALMS_MAX, true, .keys = realm_keys,
     .count_offset = offsetof(struct config, n_realms), .item_size = sizeof(struct config_realm)},
    {"bypass", CONFIG_LIST, AT(bypass), 0, CONFIG_PREFIXES_MAX, .item = CONFIG_PREFIX,
     .count_offset = offsetof(struct config, n_bypass), .item_size = sizeof(struct config_prefix)},
    {"static", CONFIG_LIST, AT(statics), 0, CONFIG_STATICS_MAX, .keys = static_keys,
     .count_offset = offsetof(struct config, n_statics), .item_size = sizeof(struct config_static)},
    {"redirect", CONFIG_LIST, AT(redirects), 0, CONFIG_REDIRECTS_MAX, .keys = redirect_keys,
     .count_offset = offsetof(struct config, n_redirects),
     .item_size = sizeof(struct config_redirect)},
    {"pcp", CONFIG_MAP, .keys = pcp_keys},
    {NULL},
};
