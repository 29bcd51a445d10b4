// SPDX-License-Identifier: Apache-2.0
//
// capture: the XDP program of a port. Every frame goes to the AF_XDP socket of
// its receive queue. A frame of a queue without a socket is dropped, not
// passed: a port belongs to the line card, and the kernel must never answer or
// forward what arrives there.
//
// Verdicts are functions of the frame, so that a fast path can be tried before
// to_socket() without changing what follows.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// sockets: receive queue -> AF_XDP socket. The loader sets max_entries to the
// number of queues of the device.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// no_socket[0]: frames dropped because their queue had no socket.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} no_socket SEC(".maps");

static __always_inline int to_socket(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *drops;
	// The flags are the verdict when the queue has no socket.
	long act = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP);

	if (act == XDP_REDIRECT)
		return XDP_REDIRECT;
	drops = bpf_map_lookup_elem(&no_socket, &zero);
	if (drops)
		*drops += 1;
	return XDP_DROP;
}

// frags: frames of several buffers (jumbo) come here, too.
SEC("xdp.frags")
int capture(struct xdp_md *ctx)
{
	return to_socket(ctx);
}

char _license[] SEC("license") = "GPL";
