// SPDX-License-Identifier: Apache-2.0
//
// express: the XDP program of a port of the express path. It forwards plain
// IPv4 and IPv6 transit by the line card's own tables, which lie in memory-mapped
// array maps (package dataplane/express writes them and has their layout).
// Whatever is not plain goes to AF_XDP unchanged, where the workers give the same
// answer that this program would have given: see capture.c for what happens there.
//
// Safety against concurrent writes: every word that leads to something is
// loaded once and checked; what it leads to is not reused until all programs that may hold it
// have ended (a run holds nothing beyond its end).

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define SEGMENT_BITS 20 // words of a segment of the lookup tables: 4 MiB
#define SEGMENTS 128
#define GROUPS (1 << 17)
#define BUCKETS (1 << 20)
#define ADJACENCIES (1 << 17)
#define INTERFACES (1 << 13)
#define VLANS 4096
#define FILTER_WORDS 1024 // of 64 bits

// INDEX bounds an index where the verifier sees it: the compiler must not know better.
#define INDEX(v, n)                            \
	({                                     \
		__u64 _v = (v);                \
		asm volatile("" : "+r"(_v));   \
		_v & ((n) - 1);                \
	})
#define load(p) (*(volatile typeof(p) *)&(p))

struct segment {
	__u32 word[1 << SEGMENT_BITS];
};

// tables: fib/compiled's array of words, cut into segments. A segment that is not
// there answers nothing.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SEGMENTS);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_ARRAY);
		__uint(map_flags, BPF_F_MMAPABLE);
		__uint(max_entries, 1);
		__uint(key_size, sizeof(__u32));
		__uint(value_size, sizeof(struct segment));
	});
} tables SEC(".maps");

// Words of groups: what it is, and where it leads.
#define GROUP_KIND(g) ((__u32)((g) >> 32) & 0xff)
#define GROUP_SHIFT(g) ((__u32)((g) >> 40) & 31) // of the flow hash
#define GROUP_TO(g) ((__u32)(g))

enum group_kind {
	GROUP_NONE, // AF_XDP's
	GROUP_ADJACENCY,
	GROUP_BUCKETS, // GROUP_TO is the first of 2^(32-shift) buckets
	GROUP_GLEAN,   // GROUP_TO is the interface: the destination is the neighbour
	GROUP_BLACKHOLE,
};

struct rewrite {
	__u32 port;  // in devices
	__u32 slot;  // of the interface, for counters
	__u32 limit; // bytes of the largest IP packet
	__u16 tag;   // 802.1Q, network order; 0: untagged
	__u8 mac[12];
	__u8 pad[6];
};

struct interface {
	__u32 slot; // for counters
	__u32 vrf;
	__u32 hash; // fields of the flow hash
	__u32 sample; // one of so many is sampled; 0: none
	__u8 mac[6];
	__u8 pad[10];
};

// Everything that is small, in one map: a lookup gives all of it.
struct state {
	__u64 seed;   // of the flow hash
	__u64 layout; // of all of this: who takes over looks at it
	__u64 pad[6];
	__u64 filter[FILTER_WORDS]; // of own addresses: most others are told apart here
	__u64 group[GROUPS];
	__u32 bucket[BUCKETS];       // adjacency; 0: AF_XDP's
	__u32 adjacency[ADJACENCIES]; // rewrite; 0: AF_XDP's
	__u32 used[ADJACENCIES];      // 1: packets have gone this way
	struct rewrite rewrite[ADJACENCIES];
	struct interface interface[INTERFACES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} state SEC(".maps");

struct address {
	__u32 scope; // interface, or VRF
	__u32 pad;
	__u64 hi, lo; // IPv4 in mapped form
};

// neighbors: interface and address of a neighbour on a connected prefix -> adjacency.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct address);
	__type(value, __u32);
} neighbors SEC(".maps");

// locals: VRF and own address.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 17);
	__type(key, struct address);
	__type(value, __u32);
} locals SEC(".maps");

// devices: port slot -> device that takes redirected frames.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} devices SEC(".maps");

struct traffic {
	__u64 rx_packets, rx_bytes, tx_packets, tx_bytes, drops;
};

// counters: by interface slot.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACES);
	__type(key, __u32);
	__type(value, struct traffic);
} counters SEC(".maps");

struct route_count {
	__u64 packets, bytes;
};

// routed: by group.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GROUPS);
	__type(key, __u32);
	__type(value, struct route_count);
} routed SEC(".maps");

enum drop { DROP_BLACKHOLE4, DROP_BLACKHOLE6, DROPS };

// drops: by reason.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROPS);
	__type(key, __u32);
	__type(value, __u64);
} drops SEC(".maps");

// skip: packets until the next sample, by interface slot; 0: not drawn yet.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} skip SEC(".maps");

#define SAMPLE_BYTES 256

struct sample {
	__u32 slot, rate;
	__u32 len; // of the frame
	__u32 n;   // bytes of it that are here
	__u64 time; // CLOCK_MONOTONIC
	__u8 data[SAMPLE_BYTES];
};

// samples: the line card empties it ten times a second; what finds it full is lost.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} samples_lost SEC(".maps");

// What follows is the port's own.

struct port {
	__u32 on; // 0: everything goes to AF_XDP
	__u32 pad[15];
	__u32 vlan[VLANS]; // tag, 0: untagged -> interface; 0: AF_XDP's
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct port);
} port SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} no_socket SEC(".maps");

static __always_inline int to_socket(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n;
	long act = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);

	if (act == XDP_REDIRECT)
		return XDP_REDIRECT;
	n = bpf_map_lookup_elem(&no_socket, &zero);
	if (n)
		*n += 1;
	return XDP_DROP;
}

// segment_of finds the segment of a word of the lookup tables.
static __always_inline struct segment *segment_of(__u32 ref)
{
	__u32 zero = 0, i = ref >> SEGMENT_BITS;
	void *inner = bpf_map_lookup_elem(&tables, &i);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

#define AT(s, ref) load((s)->word[INDEX(ref, 1 << SEGMENT_BITS)])

#define CHILD 0x80000000u
#define REF 0x0fffffffu
#define LEAF_GROUP 0xfffffu
#define NO_ANSWER 0 // no such group, or none was found in time: AF_XDP knows

static __always_inline __u32 lookup4(__u32 vrf, __u32 addr)
{
	__u32 e, pos = 0, dir = vrf * 4;
	struct segment *s = segment_of(dir);

	if (!s)
		return NO_ANSWER;
	e = AT(s, dir);
	for (int i = 0; i < 16 && e & CHILD; i++) {
		__u32 w = e >> 26 & 28, ref = e & REF;

		if (w) {
			ref += (__u32)(((__u64)addr << 32 << pos) >> ((64 - w) & 63));
			s = segment_of(ref);
			if (!s)
				return NO_ANSWER;
			e = AT(s, ref);
			pos = (pos + w) & 31;
			continue;
		}
		s = segment_of(ref);
		if (!s)
			return NO_ANSWER;
		w = AT(s, ref + 4);
		if ((addr ^ AT(s, ref)) >> ((32 - w) & 31)) {
			e = AT(s, ref + 6);
			break;
		}
		e = AT(s, ref + 5);
		pos = w & 31;
	}
	if (e & CHILD)
		return NO_ANSWER;
	e &= LEAF_GROUP;
	if (e)
		return e;
	s = segment_of(dir);
	return s ? AT(s, dir + 1) : NO_ANSWER;
}

// bits6 is w bits from bit pos of an address.
static __always_inline __u32 bits6(__u64 hi, __u64 lo, __u32 pos, __u32 w)
{
	__u64 x;

	if (pos >= 64)
		x = lo << (pos & 63);
	else if (pos)
		x = hi << pos | lo >> ((64 - pos) & 63);
	else
		x = hi;
	return x >> ((64 - w) & 63);
}

static __always_inline __u32 lookup6(__u32 vrf, __u64 hi, __u64 lo)
{
	__u32 e, pos = 0, dir = vrf * 4;
	struct segment *s = segment_of(dir);

	if (!s)
		return NO_ANSWER;
	e = AT(s, dir + 2);
	for (int i = 0; i < 64 && e & CHILD; i++) {
		__u32 w = e >> 26 & 28, ref = e & REF;
		__u64 d;

		if (w) {
			ref += bits6(hi, lo, pos, w);
			s = segment_of(ref);
			if (!s)
				return NO_ANSWER;
			e = AT(s, ref);
			pos = (pos + w) & 127;
			continue;
		}
		s = segment_of(ref);
		if (!s)
			return NO_ANSWER;
		w = AT(s, ref + 4);
		d = hi ^ ((__u64)AT(s, ref) << 32 | AT(s, ref + 1));
		if (w <= 64)
			d >>= (64 - w) & 63;
		else if (!d)
			d = (lo ^ ((__u64)AT(s, ref + 2) << 32 | AT(s, ref + 3))) >> ((128 - w) & 63);
		if (d) {
			e = AT(s, ref + 6);
			break;
		}
		e = AT(s, ref + 5);
		pos = w & 127;
	}
	if (e & CHILD)
		return NO_ANSWER;
	e &= LEAF_GROUP;
	if (e)
		return e;
	s = segment_of(dir);
	return s ? AT(s, dir + 3) : NO_ANSWER;
}

// mix folds the 128 bits of a product: dataplane/header has the same.
static __always_inline __u64 mix(__u64 a, __u64 b)
{
	__u64 al = (__u32)a, ah = a >> 32, bl = (__u32)b, bh = b >> 32;
	__u64 ll = al * bl, lh = al * bh, hl = ah * bl, hh = ah * bh;
	__u64 mid = (ll >> 32) + (__u32)lh + (__u32)hl;

	return (hh + (lh >> 32) + (hl >> 32) + (mid >> 32)) ^ (mid << 32 | (__u32)ll);
}

#define MIX1 0xa0761d6478bd642fULL
#define MIX2 0xe7037ed1a0b428dbULL
#define HASH_NO_PORTS 1
#define HASH_LABEL 2

static __always_inline bool has_ports(__u8 proto)
{
	return proto == 6 || proto == 17 || proto == 132;
}

// ports_of loads the ports behind an IP header; they are in the packet.
static __always_inline bool ports_of(void *p, void *end, __u64 *l4)
{
	if (p + 4 > end)
		return false;
	*l4 |= (__u64)bpf_ntohl(*(__u32 *)p) << 8;
	return true;
}

struct ip4 {
	__u8 vihl, tos;
	__u16 len, id, frag;
	__u8 ttl, proto;
	__u16 sum;
	__u32 src, dst;
};

struct ip6 {
	__u32 vtf;
	__u16 len;
	__u8 next, hops;
	__u64 src[2], dst[2];
} __attribute__((packed));

// packet is what is known of a packet on its way.
struct packet {
	__u32 l2;  // bytes before the IP header
	__u32 len; // of the IP packet
	__u32 all; // of the frame, from the IP header
	__u32 in, hash_fields, group, sample;
	__u64 hash;
	bool hashed, is6;
	struct address dst;
};

// unusual4 tells that a packet is not plain transit: with options, malformed, or of
// addresses that are not plain unicast.
static __always_inline bool unusual4(struct ip4 *h, __u32 len)
{
	__u32 s = bpf_ntohl(h->src) >> 24, d = bpf_ntohl(h->dst) >> 24;
	__u16 *w = (__u16 *)h;
	__u32 sum = 0;

	if (h->vihl != 0x45 || bpf_ntohs(h->len) < sizeof(*h) || bpf_ntohs(h->len) > len || h->ttl <= 1)
		return true;
	if (s == 0 || s == 127 || s >= 224 || d == 0 || d == 127 || d >= 224)
		return true;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum != 0xffff;
}

static __always_inline bool special6(__u64 hi)
{
	return hi == 0 || hi >> 54 == 0xfe80 >> 6 || hi >> 56 == 0xff;
}

static __always_inline bool unusual6(struct ip6 *h, __u32 len)
{
	return *(__u8 *)h >> 4 != 6 || (__u32)bpf_ntohs(h->len) + sizeof(*h) > len || h->hops <= 1 ||
	       special6(bpf_be64_to_cpu(h->src[0])) || special6(bpf_be64_to_cpu(h->dst[0]));
}

// maybe_own asks the filter of own addresses.
static __always_inline bool maybe_own(struct state *st, __u64 h)
{
	h >>= 48;
	return load(st->filter[INDEX(h >> 6, FILTER_WORDS)]) >> (h & 63) & 1;
}

#define PHI 0x9e3779b97f4a7c15ULL

static __always_inline bool own(struct state *st, __u32 vrf, __u64 hi, __u64 lo, bool is6)
{
	struct address a = {.scope = vrf, .hi = hi, .lo = lo};
	__u64 h = is6 ? (hi ^ lo * 0xd6e8feb86659fd93ULL ^ (__u64)vrf << 32) * PHI : ((__u64)vrf << 32 | (__u32)lo) * PHI;

	return maybe_own(st, h) && bpf_map_lookup_elem(&locals, &a);
}

static __always_inline void count_drop(__u32 reason, __u32 slot)
{
	__u64 *n = bpf_map_lookup_elem(&drops, &reason);
	struct traffic *t = bpf_map_lookup_elem(&counters, &slot);

	if (n)
		*n += 1;
	if (t)
		t->drops += 1;
}

static __always_inline void count_rx(__u32 slot, __u32 bytes)
{
	struct traffic *t = bpf_map_lookup_elem(&counters, &slot);

	if (t) {
		t->rx_packets += 1;
		t->rx_bytes += bytes;
	}
}

static __always_inline void count_tx(__u32 slot, __u32 bytes, __u32 group, __u32 len)
{
	struct traffic *t = bpf_map_lookup_elem(&counters, &slot);
	struct route_count *r = bpf_map_lookup_elem(&routed, &group);

	if (t) {
		t->tx_packets += 1;
		t->tx_bytes += bytes;
	}
	if (r) {
		r->packets += 1;
		r->bytes += len;
	}
}

// draw is a number of packets until the next sample: see package sampling.
static __always_inline __u32 draw(__u32 rate)
{
	return 1 + (__u32)((__u64)bpf_get_prandom_u32() * (2 * (__u64)rate - 1) >> 32);
}

// sample counts a packet that this program forwards or drops, and copies its beginning
// if it is its turn. The packet is as it was received.
static __always_inline void sample(struct xdp_md *ctx, struct packet *p)
{
	__u32 zero = 0, slot = p->in, *left = bpf_map_lookup_elem(&skip, &slot);
	__u32 n = p->l2 + p->all;
	struct sample *s;
	__u64 *lost;

	if (!left)
		return;
	if (!*left || *left > 2 * p->sample - 1)
		*left = draw(p->sample);
	if (--*left)
		return;
	*left = draw(p->sample);
	s = bpf_ringbuf_reserve(&samples, sizeof(*s), 0);
	if (s) {
		s->slot = slot;
		s->rate = p->sample;
		s->len = n;
		s->time = bpf_ktime_get_ns();
		if (n > SAMPLE_BYTES)
			n = SAMPLE_BYTES;
		n = INDEX(n - 1, SAMPLE_BYTES) + 1; // the same, and the verifier sees it
		if (!bpf_xdp_load_bytes(ctx, 0, s->data, n)) {
			s->n = n;
			bpf_ringbuf_submit(s, BPF_RB_NO_WAKEUP);
			return;
		}
		bpf_ringbuf_discard(s, BPF_RB_NO_WAKEUP);
	}
	lost = bpf_map_lookup_elem(&samples_lost, &zero);
	if (lost)
		*lost += 1;
}

// adjacency_of follows a group to the adjacency of the packet's neighbour; 0: AF_XDP's.
static __always_inline __u32 adjacency_of(struct state *st, struct packet *p, __u64 g)
{
	__u32 to = GROUP_TO(g), *a;

	switch (GROUP_KIND(g)) {
	case GROUP_ADJACENCY:
		return to;
	case GROUP_BUCKETS:
		return load(st->bucket[INDEX(to + ((__u32)p->hash >> GROUP_SHIFT(g)), BUCKETS)]);
	case GROUP_GLEAN:
		p->dst.scope = to;
		a = bpf_map_lookup_elem(&neighbors, &p->dst);
		return a ? *a : 0;
	}
	return 0;
}

// forward rewrites the packet and sends it to its neighbour; -1: AF_XDP's, unchanged.
static __always_inline int forward(struct xdp_md *ctx, struct state *st, struct packet *p, __u32 adj)
{
	__u32 i, out, port, slot, limit, tag;
	void *data, *end;
	struct rewrite *rw;
	int grow, pad;
	__u16 *to;

	i = load(st->adjacency[INDEX(adj, ADJACENCIES)]);
	if (!i)
		return -1;
	rw = &st->rewrite[INDEX(i, ADJACENCIES)];
	port = rw->port;
	slot = rw->slot;
	tag = rw->tag;
	limit = rw->limit;
	if (p->len > limit)
		return -1;
	// From here on the packet changes: what can fail has to come before.
	if (bpf_redirect_map(&devices, port, XDP_PASS) != XDP_REDIRECT)
		return -1;
	if (p->sample)
		sample(ctx, p);
	pad = (int)(p->all - p->len);
	if (pad > 0 && bpf_xdp_adjust_tail(ctx, -pad))
		return -1;
	out = tag ? 18 : 14;
	grow = (int)p->l2 - (int)out;
	if (grow && bpf_xdp_adjust_head(ctx, grow))
		return -1;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + 18 + 20 > end)
		return XDP_DROP; // never: the packet was larger before
	to = data;
#pragma unroll
	for (int k = 0; k < 6; k++)
		to[k] = ((__u16 *)rw->mac)[k];
	if (tag) {
		to[6] = bpf_htons(0x8100);
		to[7] = tag;
		to[8] = p->is6 ? bpf_htons(0x86dd) : bpf_htons(0x0800);
		data += 18;
	} else {
		to[6] = p->is6 ? bpf_htons(0x86dd) : bpf_htons(0x0800);
		data += 14;
	}
	if (p->is6) {
		struct ip6 *h = data;

		if ((void *)(h + 1) > end)
			return XDP_DROP;
		h->hops--;
	} else {
		struct ip4 *h = data;
		__u32 sum;

		if ((void *)(h + 1) > end)
			return XDP_DROP;
		h->ttl--;
		sum = (__u32)bpf_ntohs(h->sum) + 0x0100; // RFC 1624
		h->sum = bpf_htons((__u16)(sum + ((sum + 1) >> 16)));
	}
	if (!load(st->used[INDEX(adj, ADJACENCIES)]))
		st->used[INDEX(adj, ADJACENCIES)] = 1;
	count_rx(p->in, p->l2 + p->len + (pad > 0 ? pad : 0));
	count_tx(slot, out + p->len, p->group, p->len);
	return XDP_REDIRECT;
}

// classify finds the interface, validates and looks up; false: AF_XDP's.
static __always_inline bool classify(struct xdp_md *ctx, struct state *st, struct port *pt, struct packet *p)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 *e = data, type;
	__u32 vid = 0, i, vrf, len;
	struct interface *in;
	__u64 l4;

	if (data + 18 + 20 > end)
		return false;
	type = e[6];
	p->l2 = 14;
	if (type == bpf_htons(0x8100)) {
		vid = bpf_ntohs(e[7]) & 0xfff;
		type = e[8];
		p->l2 = 18;
	}
	i = load(pt->vlan[INDEX(vid, VLANS)]);
	if (!i)
		return false;
	in = &st->interface[INDEX(i, INTERFACES)];
	// For the interface's own address, from another unicast one.
	if (e[0] != ((__u16 *)in->mac)[0] || e[1] != ((__u16 *)in->mac)[1] || e[2] != ((__u16 *)in->mac)[2])
		return false;
	if (*(__u8 *)(e + 3) & 1 || (e[3] == e[0] && e[4] == e[1] && e[5] == e[2]))
		return false;
	p->in = in->slot;
	p->sample = in->sample;
	vrf = in->vrf & 0xffff;
	len = end - data - p->l2;
	if (type == bpf_htons(0x0800)) {
		struct ip4 *h = data + p->l2;
		__u32 dst;

		if ((void *)(h + 1) > end)
			return false;
		if (bpf_ntohs(h->len) > len)
			len = bpf_xdp_get_buff_len(ctx) - p->l2; // of several buffers, or cut off
		p->all = len;
		if (unusual4(h, len))
			return false;
		if (own(st, vrf, 0, 0xffff00000000ULL | bpf_ntohl(h->src), false))
			return false;
		p->len = bpf_ntohs(h->len);
		dst = bpf_ntohl(h->dst);
		p->dst.lo = 0xffff00000000ULL | dst;
		p->group = lookup4(vrf, dst);
		if (GROUP_KIND(load(st->group[INDEX(p->group, GROUPS)])) != GROUP_BUCKETS)
			return true;
		l4 = h->proto;
		if (!(in->hash & HASH_NO_PORTS) && has_ports(h->proto) && !(h->frag & bpf_htons(0x3fff)) && p->len >= 24 &&
		    !ports_of(h + 1, end, &l4))
			return false;
		p->hash = mix(mix(((__u64)bpf_ntohl(h->src) << 32 | dst) ^ st->seed ^ MIX1, l4 ^ MIX2) ^ st->seed, MIX1) >> 32;
		p->hashed = true;
		return true;
	}
	if (type == bpf_htons(0x86dd)) {
		struct ip6 *h = data + p->l2;
		__u64 shi, slo, dhi, dlo, x;

		if ((void *)(h + 1) > end)
			return false;
		if (bpf_ntohs(h->len) + sizeof(*h) > len)
			len = bpf_xdp_get_buff_len(ctx) - p->l2;
		p->all = len;
		if (unusual6(h, len))
			return false;
		shi = bpf_be64_to_cpu(h->src[0]);
		slo = bpf_be64_to_cpu(h->src[1]);
		if (own(st, vrf, shi, slo, true))
			return false;
		p->is6 = true;
		p->len = (__u32)bpf_ntohs(h->len) + sizeof(*h);
		dhi = p->dst.hi = bpf_be64_to_cpu(h->dst[0]);
		dlo = p->dst.lo = bpf_be64_to_cpu(h->dst[1]);
		p->group = lookup6(vrf, dhi, dlo);
		if (GROUP_KIND(load(st->group[INDEX(p->group, GROUPS)])) != GROUP_BUCKETS)
			return true;
		l4 = h->next;
		if (in->hash & HASH_LABEL)
			l4 |= (__u64)(bpf_ntohl(h->vtf) & 0xfffff) << 40;
		if (!(in->hash & HASH_NO_PORTS) && has_ports(h->next) && p->len >= 44 && !ports_of(h + 1, end, &l4))
			return false;
		x = mix(shi ^ st->seed ^ MIX1, slo ^ MIX2);
		x = mix(x ^ dhi, dlo ^ MIX1);
		x = mix(x ^ st->seed, l4 ^ MIX2);
		p->hash = mix(x ^ st->seed, MIX1) >> 32;
		p->hashed = true;
		return true;
	}
	return false;
}

// frags: frames of several buffers (jumbo) come here, too. Of such a frame the program
// sees the first buffer.
SEC("xdp.frags")
int express(struct xdp_md *ctx)
{
	__u32 zero = 0, adj;
	struct port *pt = bpf_map_lookup_elem(&port, &zero);
	struct state *st = bpf_map_lookup_elem(&state, &zero);
	struct packet p = {};
	__u64 g;
	int act;

	if (!pt || !st || !load(pt->on) || !classify(ctx, st, pt, &p) || p.group == NO_ANSWER || p.group >= GROUPS)
		return to_socket(ctx);
	g = load(st->group[INDEX(p.group, GROUPS)]);
	if (GROUP_KIND(g) == GROUP_BLACKHOLE) {
		if (p.sample)
			sample(ctx, &p);
		count_rx(p.in, p.l2 + p.all);
		count_drop(p.is6 ? DROP_BLACKHOLE6 : DROP_BLACKHOLE4, p.in);
		return XDP_DROP;
	}
	if (GROUP_KIND(g) == GROUP_BUCKETS && !p.hashed)
		return to_socket(ctx); // the group has just become one of several members
	adj = adjacency_of(st, &p, g);
	if (!adj)
		return to_socket(ctx);
	act = forward(ctx, st, &p, adj);
	if (act < 0)
		return to_socket(ctx);
	return act;
}

char _license[] SEC("license") = "GPL";
