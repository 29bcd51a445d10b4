// Package rib holds the routes of all protocols, per VRF, and decides which of
// them forward packets. It is pure: updates go in, changes come out; there is
// no goroutine, clock, socket or lock in it. One goroutine uses a Table.
//
//	AddVRF, SetInterface, SetStatic, BGPRoutes, MarkStale, Sweep …
//	        │ Apply
//	        ▼
//	candidates of a prefix ──▶ next-hop sets ──▶ next hops ──▶ resolution through candidates
//	        │ decision              │ group
//	        ▼                       ▼
//	     routes ───────────▶ Drain: []fib.Change        DrainBest: []BestChange (for redistribution)
//
// A next-hop set is what a protocol said (interned: routes that say the same
// share one), a group is what the FIB gets for it. The group's number stays
// while its set is in use; when a next hop fails, one group changes and no
// route does. Only when a set has no usable member left, or gets its first
// one, are its routes decided again, a bounded number each Apply (see More).
//
// docs/rib.md tells the decision and the rules of resolution, with the numbers
// that the code has.
package rib
