// Package xdp gives a line card its ports through AF_XDP: an XDP program on
// the network device sends every frame to user space, frames leave through the
// sockets' transmit rings, and the kernel's stack sees none of it.
//
//	Device (one a netdev)            Umem (one a worker)
//	  XDP program ─▶ XSKMAP            graph.Pool: chunks of one mapping
//	                  │ queue q           ▲            ▲
//	                  ▼                   │ addresses  │
//	  Port (a worker's share of the device's queues): per queue one socket with
//	  FILL, RX, TX, COMPLETION
//
// All sockets of a worker share its Umem, so a frame received on one port is
// sent on another without a copy. A queue of a device has one socket and so
// one worker: queue q belongs to worker q mod W (Share tells which).
//
// Who may call: Device is for one goroutine at a time. Umem, Pool and Port
// belong to the worker: Open, Rx, Tx, Flush, Close and Umem.Close are called by
// it, or while it stands still. Counters, SetMTU and Fds may be called by anyone.
// Nothing blocks; Rx, Tx and Flush do not allocate.
//
// Modes: the program is attached natively (in the driver) where the driver can,
// else generically (on socket buffers), with the reason kept. Zero copy is tried
// on native devices, then copy. When the process dies the program goes with it.
package xdp
