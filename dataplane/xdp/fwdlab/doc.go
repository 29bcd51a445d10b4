// Package fwdlab is the forwarding lab: a generator, a router under test and a
// sink, in namespaces joined by veth pairs, and the measurement of what the
// router forwards and what CPU time that costs it.
//
//	gen ns            rtr ns             sink ns
//	┌────┐  veth  ┌───────────┐  veth  ┌──────┐
//	│ g  │────────│ in    out │────────│ s    │
//	└────┘        └───────────┘        └──────┘
//	XDP program    kernel, or a          XDP program
//	in live-frame  worker of ours        counts, checks, drops
//	mode: core 0   on core 1             core 0
//
// NAPI is threaded, so that each side's receive work can be pinned: the
// router's two threads on the router's core, the sink's on the other. The lab
// needs root, and two cores to itself for figures that mean something.
package fwdlab
