// Package linecard is the agent of one line card: it brings up ports, workers,
// host interfaces and the fabric as the routing engine wants them, feeds the
// forwarding tables, runs the slow path, and reports.
//
//	routing engine ── session ──▶ ┌ event loop ──────────────────────────────┐
//	                              │ SetCard → ports, TAPs, TUNs, fabric      │
//	                              │ FIBBatch → fib/patricia → FIBAck         │
//	link changes ── 1 goroutine ─▶│ PortEvent, carrier of the TAPs           │
//	workers ── punt queue ───────▶│ pipeline.SlowPath → frames, neighbours   │
//	workers ── capture queue ────▶│ CaptureFrame                             │
//	                              └──────────────────────────────────────────┘
//	TAP, TUN ── 1 reader goroutine each ──▶ inject and host queues ──▶ worker 0
//
// Promises: the desired state is applied by difference, the same state again
// changes nothing; what is missing (a device, a namespace) is a problem that is
// reported and retried, and the rest works; without a routing engine the card
// goes on with what it has. All state belongs to the event loop.
package linecard
