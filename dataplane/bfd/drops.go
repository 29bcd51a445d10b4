package bfd

import "godwit/dataplane/graph"

// Drop is why a packet was refused.
type Drop int

// passed is no drop.
const passed Drop = -1

// The reasons.
const (
	DropShort Drop = iota
	DropVersion
	DropLength
	DropMultiplier
	DropMultipoint
	DropMyDiscriminator
	DropYourDiscriminator
	DropUnknown
	DropMismatch
	DropTTL
	DropAuth
	DropReplay
	DropDatagram
	DropChecksum
	DropEcho
)

func newDrops() *graph.Drops {
	return graph.NewDrops("bfd", []graph.DropReason{
		DropShort:             {Name: "short", Help: "shorter than a control packet"},
		DropVersion:           {Name: "bad-version", Help: "not version 1"},
		DropLength:            {Name: "bad-length", Help: "the length field does not fit"},
		DropMultiplier:        {Name: "zero-multiplier", Help: "detection multiplier 0"},
		DropMultipoint:        {Name: "multipoint", Help: "the multipoint bit is set"},
		DropMyDiscriminator:   {Name: "zero-my-discriminator", Help: "the sender names no session of its own"},
		DropYourDiscriminator: {Name: "zero-your-discriminator", Help: "our session is not named, in a state where it must be"},
		DropUnknown:           {Name: "no-session", Help: "no session with this neighbor, or this discriminator"},
		DropMismatch:          {Name: "wrong-source", Help: "the discriminator is of a session with another neighbor, interface or VRF"},
		DropTTL:               {Name: "ttl", Help: "TTL or hop limit is not 255 on one hop (RFC 5082), or below the session's least"},
		DropAuth:              {Name: "authentication", Help: "authentication is missing, not expected, or wrong"},
		DropReplay:            {Name: "replay", Help: "authentication sequence number out of order: a replay, or a neighbor that restarted a moment ago"},
		DropDatagram:          {Name: "bad-datagram", Help: "not a whole UDP datagram"},
		DropChecksum:          {Name: "bad-checksum", Help: "wrong UDP checksum"},
		DropEcho:              {Name: "echo-refused", Help: "echo packet of a neighbor without a session that allows it"},
	})
}
