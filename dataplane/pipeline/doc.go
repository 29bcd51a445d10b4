// Package pipeline joins the packet nodes into the way of a packet, and holds
// what they share with the control side.
//
//	worker (1 Pipeline each)                                    event loop (1 SlowPath)
//
//	Input ─▶ ethernet-input ─┬▶ ip4-input ─▶ ip4-lookup ─▶ ip4-forward ─┐
//	                         ├▶ ip6-input ─▶ ip6-lookup ─▶ ip6-forward ─┤
//	HostInput ───────────────┘      │                        ▲  │       ├▶ interface-output ─▶ Sink.Tx
//	FabricInput ─▶ fabric-input ────┼────────────────────────┘  ├───────┼▶ Sink.Fabric
//	Inject ─▶ inject ───────────────┼───────────────────────────┼───────┘
//	                                └──────────▶ punt ◀─────────┘
//	                                              └▶ Sink.Punt ─▶ SlowPath.Punted ─▶ effects
//
// State is shared: written by one goroutine (through SlowPath and the hooks of
// fib/patricia), read by all workers without locks. A Pipeline belongs to its
// worker; Counters, Drops and Policed may be read by any goroutine. SlowPath is
// pure: no goroutine, socket or clock; time comes in, effects go out.
package pipeline
