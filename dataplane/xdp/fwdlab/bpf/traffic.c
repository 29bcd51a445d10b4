// SPDX-License-Identifier: Apache-2.0
//
// traffic: generator and sink of the forwarding lab.
//
// The generator runs in live-frame mode (BPF_F_TEST_XDP_LIVE_FRAMES): each run
// writes one frame and transmits it on the device it was given as ingress.
// The kernel recycles frames as the router has left them, so all of it is
// written anew. The sink counts, checks and drops.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAGIC 0x67647774u
#define BUCKETS 8192 // of 512 ns: 4.2 ms

// What follows the UDP header: 18 bytes make a frame of 60, 64 with its FCS.
struct payload {
	__u32 magic;
	__u32 target; // index in targets, so that the sink can check the address
	__u64 sent;   // bpf_ktime_get_ns, 0: not stamped
	__u16 pad;
} __attribute__((packed));

// What follows the IP header.
struct rest {
	struct udphdr udp;
	struct payload load;
} __attribute__((packed));

struct ip6 {
	__u32 vtf;
	__u16 len;
	__u8 next, hops;
	struct address6 {
		__u64 hi, lo;
	} __attribute__((packed)) src, dst;
} __attribute__((packed));

// Destination addresses in network order.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

// The same, IPv6; either has the targets.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct address6);
} targets6 SEC(".maps");

// The frame without what varies. Words, to be copied quickly.
#define WORDS 21
volatile const __u32 template[WORDS];
volatile const __u32 six;   // IPv6
volatile const __u32 vlans; // tags from 1, in turn; 0: untagged
volatile const __u32 target_mask; // number of targets - 1; a power of two
volatile const __u32 stamp;       // write the time into frames
volatile const __u32 flows;       // number of source ports - 1; a power of two
volatile const __u64 interval;    // ns between frames; 0: none. Frames in between are not sent
__u64 due;                        // bpf_ktime_get_ns of the next frame
__u64 sent;                       // frames
__u32 halt;                       // set from outside: send no more, the runs end quickly

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u32 ip_sum(struct iphdr *ip)
{
	__u16 *w = (void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	return sum;
}

static __always_inline __u16 tag_of(__u32 k)
{
	return bpf_htons(1 + k % vlans);
}

// emit writes a frame; l2 and v6 are constants.
static __always_inline int emit(struct xdp_md *ctx, const __u32 l2, const int v6)
{
	void *data = (void *)(long)ctx->data, *ip = data + l2;
	struct rest *r = ip + (v6 ? sizeof(struct ip6) : sizeof(struct iphdr));
	const __u32 size = l2 + (v6 ? sizeof(struct ip6) : sizeof(struct iphdr)) + sizeof(*r);
	__u64 now = 0;
	__u32 k;

	if (halt || (void *)(r + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	if (interval || stamp)
		now = bpf_ktime_get_ns();
	if (interval) {
		if (now < due)
			return XDP_DROP;
		// Late by much: don't catch up with a burst.
		due = (due + 1000000 < now ? now : due) + interval;
	}
	k = sent++ & target_mask;
#pragma unroll
	for (int i = 0; i < WORDS; i++)
		if (i * 4 < size)
			((__u32 *)data)[i] = template[i];
	if (l2 == 18)
		*(__u16 *)(data + 14) = tag_of(k);
	if (v6) {
		struct address6 *target = bpf_map_lookup_elem(&targets6, &k);

		if (!target)
			return XDP_DROP;
		((struct ip6 *)ip)->dst = *target;
	} else {
		__u32 *target = bpf_map_lookup_elem(&targets, &k);

		if (!target)
			return XDP_DROP;
		((struct iphdr *)ip)->daddr = *target;
		((struct iphdr *)ip)->check = ~fold(ip_sum(ip));
	}
	r->udp.source = bpf_htons(1024 + (k & flows));
	r->load.magic = MAGIC;
	r->load.target = k;
	r->load.sent = stamp ? now : 0;
	return XDP_TX;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	if (vlans)
		return six ? emit(ctx, 18, 1) : emit(ctx, 18, 0);
	return six ? emit(ctx, 14, 1) : emit(ctx, 14, 0);
}

struct counts {
	__u64 good;    // frames of ours; every one of them if check is 1
	__u64 bad;     // of ours, but damaged or not as a router sends them
	__u64 foreign; // anything else
	__u64 checked;
	__u64 odd;     // good ones of targets with an odd index
	__u64 other;   // of those, the ones that came to other_dst
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} seen SEC(".maps");

// Time on the way in units of 512 ns.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

volatile const __u32 check_mask; // check frames whose target & check_mask is 0
volatile const __u64 want_dst;   // destination MAC, in the order of memory
volatile const __u64 other_dst;  // 0, or where frames of targets with an odd index may arrive as well
volatile const __u8 want_ttl;

static __always_inline int sound(void *data, const __u32 l2, const int v6, struct rest *r, __u64 dst)
{
	__u32 k = r->load.target & target_mask;

	if (dst != want_dst && !(other_dst && dst == other_dst && (k & 1)))
		return 0;
	if (l2 == 18 && *(__u16 *)(data + 14) != tag_of(k))
		return 0;
	if (v6) {
		struct address6 *target = bpf_map_lookup_elem(&targets6, &k);
		struct ip6 *h = data + l2;

		return target && target->hi == h->dst.hi && target->lo == h->dst.lo && h->hops == want_ttl;
	} else {
		__u32 *target = bpf_map_lookup_elem(&targets, &k);
		struct iphdr *h = data + l2;

		return target && *target == h->daddr && h->ttl == want_ttl && fold(ip_sum(h)) == 0xffff;
	}
}

// take counts a frame; l2 and v6 are constants.
static __always_inline int take(struct xdp_md *ctx, const __u32 l2, const int v6)
{
	void *data = (void *)(long)ctx->data, *ip = data + l2;
	struct rest *r = ip + (v6 ? sizeof(struct ip6) : sizeof(struct iphdr));
	__u32 zero = 0, bucket;
	struct counts *c = bpf_map_lookup_elem(&seen, &zero);
	__u64 *n, dst = 0;

	if (!c)
		return XDP_DROP;
	if ((void *)(r + 1) > (void *)(long)ctx->data_end || *(__u16 *)(ip - 2) != bpf_htons(v6 ? ETH_P_IPV6 : ETH_P_IP) ||
	    (l2 == 18 && *(__u16 *)(data + 12) != bpf_htons(ETH_P_8021Q)) ||
	    (v6 ? ((struct ip6 *)ip)->next : ((struct iphdr *)ip)->protocol) != 17 || r->load.magic != MAGIC) {
		c->foreign++;
		return XDP_DROP;
	}
	__builtin_memcpy(&dst, data, 6);
	if ((r->load.target & check_mask) == 0) {
		c->checked++;
		if (!sound(data, l2, v6, r, dst)) {
			c->bad++;
			return XDP_DROP;
		}
	}
	c->good++;
	if (r->load.target & 1) {
		c->odd++;
		if (dst != want_dst)
			c->other++;
	}
	if (r->load.sent) {
		bucket = (bpf_ktime_get_ns() - r->load.sent) >> 9;
		if (bucket >= BUCKETS)
			bucket = BUCKETS - 1;
		n = bpf_map_lookup_elem(&delays, &bucket);
		if (n)
			*n += 1;
	}
	return XDP_DROP;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	if (vlans)
		return six ? take(ctx, 18, 1) : take(ctx, 18, 0);
	return six ? take(ctx, 14, 1) : take(ctx, 14, 0);
}

char _license[] SEC("license") = "GPL";
