// Package patricia holds a line card's forwarding tables: for every VRF the
// routes in trees that the writer edits (B+ trees of ours; Patricia trees of
// github.com/kentik/patricia, their oracle, can be selected), and the same
// routes compiled for lookup (package compiled), which forwarding workers read; and the next-hop groups that the routes use, under
// dense indices.
//
// One goroutine, the writer, calls Apply, DropVRF, Reclaim, Get, Find, Walk,
// Group, Stats and Close. Any goroutine may look up; one that does so
// concurrently with the writer holds an online Reader. Lookups take no lock
// and do not allocate.
//
// # Group indices
//
// A group of one epoch has an index from 1 to MaxGroups while it exists. The
// writer announces its content (Hooks.GroupSet) before a route leads to it,
// and its end (Hooks.GroupFree) when no online reader can hold the index any
// more; only then is the index given to another group.
//
// # Replay
//
// A route remembers in which of 16 generations it was set. An epoch starts a
// generation; Sweep removes the routes of all others. A replay needs no second
// table, and a route that is set again to the same group is not compiled again.
package patricia
