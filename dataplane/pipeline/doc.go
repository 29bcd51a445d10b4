// Package pipeline joins the packet nodes into the way of a packet, and holds
// what they share with the control side.
package pipeline
