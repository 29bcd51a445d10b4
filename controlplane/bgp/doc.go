// Package bgp is the BGP speaker of one VRF: a GoBGP server driven by the
// routing engine over the bus. It is the only package that imports GoBGP, and
// none of GoBGP's types leave it.
//
//	routing engine ──▶ Speaker (event loop) ──▶ operations, one at a time ──▶ GoBGP server
//	      ▲                 ▲      ▲                                           │ watch queue
//	      │                 │      └─ peer states, end of RIB ── watch ◀───────┤ (1 goroutine)
//	      └─ RouteBatch ◀── feed: latest paths of each prefix ◀── watch ◀──────┘
//
// Promises: the Speaker's methods run on its event loop and never block it;
// calls into GoBGP that can block run one after another on a goroutine of their
// own. The feed holds one entry a prefix, however fast paths change, so what
// waits for the routing engine is bounded by the size of the table. Routes of a
// prefix are sent in the order in which they became best; prefixes are not
// ordered among each other. Nothing is accepted from or advertised to a
// neighbour unless its policy says so.
package bgp
