// Package churn measures whether a router loses or misdelivers packets while its
// routes change. A whole router, its processes as they ship, stands in the lab
// of package fwdlab; a BGP feeder gives it a table and then moves some of its
// prefixes between two next hops, thousands a second:
//
//	gen ──► in ┌────────┐ out ──► sink: MAC of next hop 1 or 2
//	           │ router │
//	           └────────┘ feed ◄── BGP: table, then changes
//
// Half of the packets go to prefixes that never change and must arrive at next
// hop 1; the others to prefixes that flap, and must arrive at either. The sink
// checks every packet.
package churn
