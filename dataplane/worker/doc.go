// Package worker runs the packet graph: one Worker is one goroutine locked to
// its thread, with its own buffers, over its share of the ports' queues.
//
//	          ┌─ ports' RX ──────▶ Input ───────┐
//	fabric ───┼─ consumers ──────▶ FabricInput ─┤           ┌▶ ports' TX
//	TUN ──────┼─ host queue ─────▶ HostInput ───┼─ pipeline ┼▶ fabric producers
//	slow path,┼─ inject queue ───▶ Inject ──────┘   (Sink)  ├▶ other workers' hand-over queue
//	TAP       └─ hand-over queue ─────────────▶ TX          └▶ punt queue ──▶ event loop
//
// A round takes at most graph.VectorSize packets from each source. After a
// round without work the worker sleeps in poll(2) on its ports, the fabric's
// doorbells and an eventfd: it never spins. Queue q of a port belongs to worker
// q mod W; a worker that has none hands its frames over to one that has.
//
// Promises: the worker never blocks on another goroutine, allocates nothing
// per packet, and leaves no packet behind: what it can't hand on it counts under
// a name and puts back. Do, Inject, Host, Drops, Stats and Stop may be called
// from any goroutine but the worker's.
package worker
