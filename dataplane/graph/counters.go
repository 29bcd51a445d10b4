package graph

import "sync/atomic"

// DropReason is one way in which a node ends a packet.
type DropReason struct {
	Name string // "bad-checksum": lower case, stable, unique in its node
	Help string // one line for the operator
}

// DropCount is a named drop counter as it stands.
type DropCount struct {
	Node, Reason, Help string
	Count              uint64
}

// Drops counts what one node of one worker drops. The node's worker adds; any
// goroutine reads.
type Drops struct {
	node    string
	reasons []DropReason
	counts  []atomic.Uint64
}

// NewDrops makes the counters of a node; reasons are indexed by their position.
func NewDrops(node string, reasons []DropReason) *Drops {
	return &Drops{node: node, reasons: reasons, counts: make([]atomic.Uint64, len(reasons))}
}

// Add counts one packet.
func (d *Drops) Add(reason int) { d.counts[reason].Add(1) }

// Count reads one counter.
func (d *Drops) Count(reason int) uint64 { return d.counts[reason].Load() }

// Append appends all counters, zero ones too, in the order of the reasons.
func (d *Drops) Append(list []DropCount) []DropCount {
	for i, r := range d.reasons {
		list = append(list, DropCount{d.node, r.Name, r.Help, d.counts[i].Load()})
	}
	return list
}

// MergeDrops sums the counters of several workers; the order is that of their
// first appearance.
func MergeDrops(lists ...[]DropCount) []DropCount {
	type key struct{ node, reason string }
	at := make(map[key]int)
	var sum []DropCount
	for _, list := range lists {
		for _, c := range list {
			k := key{c.Node, c.Reason}
			if i, ok := at[k]; ok {
				sum[i].Count += c.Count
				continue
			}
			at[k] = len(sum)
			sum = append(sum, c)
		}
	}
	return sum
}
