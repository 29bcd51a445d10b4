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

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	struct payload load;
} __attribute__((packed));

// Destination addresses in network order.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

// The frame without what varies. Words, to be copied quickly.
#define WORDS 15
volatile const __u32 template[WORDS];
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

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	struct frame *f = (void *)(long)ctx->data;
	__u32 k, *target;
	__u64 now = 0;

	if (halt || (void *)(f + 1) > (void *)(long)ctx->data_end)
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
	target = bpf_map_lookup_elem(&targets, &k);
	if (!target)
		return XDP_DROP;
#pragma unroll
	for (int i = 0; i < WORDS; i++)
		((__u32 *)f)[i] = template[i];
	f->ip.daddr = *target;
	f->ip.check = ~fold(ip_sum(&f->ip));
	f->udp.source = bpf_htons(1024 + (k & flows));
	f->load.magic = MAGIC;
	f->load.target = k;
	f->load.sent = stamp ? now : 0;
	return XDP_TX;
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

static __always_inline int sound(struct frame *f, __u64 dst)
{
	__u32 k = f->load.target & target_mask;
	__u32 *target = bpf_map_lookup_elem(&targets, &k);

	return target && *target == f->ip.daddr &&
	       (dst == want_dst || (other_dst && dst == other_dst && (k & 1))) && f->ip.ttl == want_ttl && fold(ip_sum(&f->ip)) == 0xffff;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	struct frame *f = (void *)(long)ctx->data;
	__u32 zero = 0, bucket;
	struct counts *c = bpf_map_lookup_elem(&seen, &zero);
	__u64 *n, dst = 0;

	if (!c)
		return XDP_DROP;
	if ((void *)(f + 1) > (void *)(long)ctx->data_end || f->eth.h_proto != bpf_htons(ETH_P_IP) ||
	    f->ip.protocol != 17 || f->load.magic != MAGIC) {
		c->foreign++;
		return XDP_DROP;
	}
	__builtin_memcpy(&dst, f->eth.h_dest, 6);
	if ((f->load.target & check_mask) == 0) {
		c->checked++;
		if (!sound(f, dst)) {
			c->bad++;
			return XDP_DROP;
		}
	}
	c->good++;
	if (f->load.target & 1) {
		c->odd++;
		if (dst != want_dst)
			c->other++;
	}
	if (f->load.sent) {
		bucket = (bpf_ktime_get_ns() - f->load.sent) >> 9;
		if (bucket >= BUCKETS)
			bucket = BUCKETS - 1;
		n = bpf_map_lookup_elem(&delays, &bucket);
		if (n)
			*n += 1;
	}
	return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
