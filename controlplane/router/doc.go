// Package router is the routing engine: it joins the configuration, the RIB,
// the host stacks, the line cards, the BGP speakers and the management API.
//
//	management API ── apply ──▶ plan (pure) ──▶ host stack (off the loop)
//	                                        ├─▶ modules  ──▶ supervisor {100}
//	speakers {103} ── RouteBatch ──┐        ├─▶ cards    ──▶ line cards {102}
//	cards {102} ───── PortEvent ───┼─▶ routes: rib ──┬─▶ FIB download, one stream a card
//	plan ───── interfaces, static ─┘                 └─▶ redistribution to the speakers
//
// Tasks: everything runs on one event.Loop, as events of four handlers:
// sessions and ports (high), routes (normal), requests (normal), timers (high). Only
// the kernel's work (namespaces, TAPs, files) and pings run on goroutines of
// their own, and come back as events. Large work is cut into slices, so that no
// event holds up another for more than some milliseconds.
//
// Promises: a configuration is applied whole or not at all, one at a time; no
// route is removed from a line card because the routing engine or a speaker
// restarts, until the speakers have told theirs or the restart time is over.
package router
