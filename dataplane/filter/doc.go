// Package filter matches packets against ordered rules: access lists, mirrors and captures.
//
// A List is compiled into flat arrays. For each of source, destination, ports and protocol the rules cut the
// field's values into intervals, and each interval has a bit map of the rules that it fits; a packet's map is
// their conjunction, in the order of the rules. So the cost of a packet grows with the logarithm of the number of rules,
// and a 64th of it. What is asked for seldom (flags, DSCP, VLAN) is looked at in the rules that are left.
//
// A List is immutable and safe for any number of readers; matching allocates nothing.
package filter
