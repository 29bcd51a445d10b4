package neigh

import "godwit/dataplane/graph"

// Drop reasons of the neighbour table.
const (
	dropARPInvalid = iota
	dropARPSpoof
	dropARPOffLink
	dropNDInvalid
	dropNDSpoof
	dropNDOffLink
	dropQueueFull
	dropGivenUp
	dropTableFull
	dropUnreachable
	dropDown
)

var dropReasons = []graph.DropReason{
	{Name: "arp-invalid", Help: "malformed ARP packet, or a group address as a sender"},
	{Name: "arp-spoof", Help: "ARP in which another station claims the router's own address: a duplicate address or an attack"},
	{Name: "arp-off-link", Help: "ARP sender outside the interface's prefixes"},
	{Name: "nd-invalid", Help: "malformed neighbour discovery message, wrong checksum, or hop limit not 255 (RFC 4861, 7.1)"},
	{Name: "nd-spoof", Help: "neighbour discovery in which another station claims the router's own address"},
	{Name: "nd-off-link", Help: "solicitation from outside the interface's prefixes"},
	{Name: "queue-full", Help: "more packets for an unresolved neighbour than are kept"},
	{Name: "given-up", Help: "unanswered neighbour given up for newer ones: a scan of a connected prefix?"},
	{Name: "table-full", Help: "no room for another neighbour"},
	{Name: "unreachable", Help: "packet whose neighbour did not answer three requests"},
	{Name: "interface-down", Help: "packet to resolve on an interface that is down or gone"},
}
