package bfd

import (
	"encoding/binary"
	"fmt"
)

// State is a session's state (RFC 5880, 4.1).
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

var stateNames = [...]string{"admin-down", "down", "init", "up"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Diag says why the state changed last (RFC 5880, 4.1).
type Diag uint8

// The diagnostic codes in use here.
const (
	DiagNone         Diag = 0
	DiagExpired      Diag = 1
	DiagNeighborDown Diag = 3
	DiagPathDown     Diag = 5
	DiagAdminDown    Diag = 7
)

var diagNames = [...]string{"none", "detection time expired", "echo failed", "neighbor signaled session down",
	"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down"}

func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("code %d", uint8(d))
}

// headerLen is the length of the mandatory section, bytes.
const headerLen = 24

// Bits of the second octet.
const (
	bitPoll       = 0x20
	bitFinal      = 0x10
	bitCPI        = 0x08 // control plane independent
	bitAuth       = 0x04
	bitDemand     = 0x02
	bitMultipoint = 0x01
)

// Packet is the mandatory section of a control packet.
type Packet struct {
	Diag        Diag
	State       State
	Poll        bool
	Final       bool
	Independent bool // of the sender's control plane
	Auth        bool // an authentication section follows
	Demand      bool
	Multiplier  uint8
	My, Your    uint32 // discriminators
	// Intervals in microseconds.
	MinTx, MinRx, MinEcho uint32
}

// Decode reads and checks a control packet (RFC 5880, 6.8.6, as far as no
// session is needed). auth is its authentication section, nil if it has none;
// body is the packet without what may follow in the datagram.
func Decode(b []byte) (p Packet, body, auth []byte, why Drop) {
	switch {
	case len(b) < headerLen:
		return p, nil, nil, DropShort
	case b[0]>>5 != 1:
		return p, nil, nil, DropVersion
	case int(b[3]) < headerLen || int(b[3]) > len(b):
		return p, nil, nil, DropLength
	}
	body = b[:b[3]]
	p = Packet{
		Diag: Diag(b[0] & 0x1f), State: State(b[1] >> 6),
		Poll: b[1]&bitPoll != 0, Final: b[1]&bitFinal != 0, Independent: b[1]&bitCPI != 0,
		Auth: b[1]&bitAuth != 0, Demand: b[1]&bitDemand != 0,
		Multiplier: b[2],
		My:         binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		MinTx: binary.BigEndian.Uint32(b[12:]), MinRx: binary.BigEndian.Uint32(b[16:]), MinEcho: binary.BigEndian.Uint32(b[20:]),
	}
	switch {
	case p.Auth && len(body) < headerLen+2:
		return p, nil, nil, DropLength
	case p.Multiplier == 0:
		return p, nil, nil, DropMultiplier
	case b[1]&bitMultipoint != 0:
		return p, nil, nil, DropMultipoint
	case p.My == 0:
		return p, nil, nil, DropMyDiscriminator
	case p.Your == 0 && p.State != Down && p.State != AdminDown:
		return p, nil, nil, DropYourDiscriminator
	}
	if p.Auth {
		auth = body[headerLen:]
		if int(auth[1]) != len(auth) { // its own length must fill the rest
			return p, nil, nil, DropAuth
		}
	}
	return p, body, auth, passed
}

// Append writes the packet, without authentication, to b.
func (p *Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range []struct {
		on  bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.Independent, bitCPI}, {p.Auth, bitAuth}, {p.Demand, bitDemand}} {
		if f.on {
			flags |= f.bit
		}
	}
	b = append(b, 1<<5|byte(p.Diag)&0x1f, flags, p.Multiplier, headerLen)
	for _, n := range []uint32{p.My, p.Your, p.MinTx, p.MinRx, p.MinEcho} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}
