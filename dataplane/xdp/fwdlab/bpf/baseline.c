// SPDX-License-Identifier: Apache-2.0
//
// baseline: what other XDP forwarders cost. redirect sends everything to one neighbour, without
// a lookup: the limit of what any program can do here. fib asks the kernel's own
// tables (bpf_fib_lookup), as the kernel's sample does.

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

volatile const __u32 out; // interface index
volatile const __u8 macs[12];

struct eth {
	__u8 mac[12];
	__u16 type;
} __attribute__((packed));

struct ip4 {
	__u8 vihl, tos;
	__u16 len, id, frag;
	__u8 ttl, proto;
	__u16 sum;
	__u32 src, dst;
};

static __always_inline void count_down(struct ip4 *h)
{
	__u32 sum = (__u32)bpf_ntohs(h->sum) + 0x0100;

	h->ttl--;
	h->sum = bpf_htons((__u16)(sum + ((sum + 1) >> 16)));
}

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	struct eth *e = (void *)(long)ctx->data;
	struct ip4 *h = (void *)(e + 1);

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || e->type != bpf_htons(0x0800) || h->ttl <= 1)
		return XDP_PASS;
#pragma unroll
	for (int i = 0; i < 12; i++)
		e->mac[i] = macs[i];
	count_down(h);
	return bpf_redirect_map(&devices, out, XDP_PASS);
}

SEC("xdp")
int fib(struct xdp_md *ctx)
{
	struct eth *e = (void *)(long)ctx->data;
	struct ip4 *h = (void *)(e + 1);
	struct bpf_fib_lookup p = {};

	if ((void *)(h + 1) > (void *)(long)ctx->data_end || e->type != bpf_htons(0x0800) || h->ttl <= 1)
		return XDP_PASS;
	p.family = 2;
	p.tos = h->tos;
	p.l4_protocol = h->proto;
	p.tot_len = bpf_ntohs(h->len);
	p.ipv4_src = h->src;
	p.ipv4_dst = h->dst;
	p.ifindex = ctx->ingress_ifindex;
	if (bpf_fib_lookup(ctx, &p, sizeof(p), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_PASS;
	__builtin_memcpy(e->mac, p.dmac, 6);
	__builtin_memcpy(e->mac + 6, p.smac, 6);
	count_down(h);
	return bpf_redirect_map(&devices, p.ifindex, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
