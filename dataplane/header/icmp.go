package header

import (
	"encoding/binary"
	"net/netip"
)

// ICMP types and codes (RFC 792, 1812).
const (
	ICMPEchoReply      = 0
	ICMPUnreachable    = 3
	ICMPSourceQuench   = 4
	ICMPRedirect       = 5
	ICMPEcho           = 8
	ICMPTimeExceeded   = 11
	ICMPParamProblem   = 12
	CodeNetUnreach     = 0
	CodeHostUnreach    = 1
	CodeFragNeeded     = 4
	CodeAdminProhibit  = 13
	ICMPv6Unreachable  = 1
	ICMPv6TooBig       = 2
	ICMPv6TimeExceeded = 3
	ICMPv6ParamProblem = 4
	ICMPv6FirstInfo    = 128 // types below are errors
	ICMPv6Echo         = 128
	ICMPv6EchoReply    = 129
	ICMPv6MLDQuery     = 130
	Code6NoRoute       = 0
	Code6AdminProhibit = 1
	Code6BeyondScope   = 2
	Code6AddrUnreach   = 3
)

// ND message types (RFC 4861).
const (
	NDRouterSolicit   = 133
	NDRouterAdvert    = 134
	NDNeighborSolicit = 135
	NDNeighborAdvert  = 136
	NDRedirect        = 137
)

// ND options.
const (
	NDOptSource = 1 // source link-layer address
	NDOptTarget = 2 // target link-layer address
)

// Flags of a neighbour advertisement (first octet of the word).
const (
	NAFlagRouter    = 0x80
	NAFlagSolicited = 0x40
	NAFlagOverride  = 0x20
)

// NDLen is the length of a neighbour solicitation or advertisement without
// options, from the ICMPv6 type; NDOptLen that of a link-layer address option.
const (
	NDLen    = 24
	NDOptLen = 8
)

// ND is a view of a neighbour solicitation or advertisement, from the ICMPv6
// type octet.
type ND []byte

// IsValid checks type, code, target and the form of all options (RFC 4861, 7.1).
func (n ND) IsValid() bool {
	if len(n) < NDLen || n[1] != 0 || (n[0] != NDNeighborSolicit && n[0] != NDNeighborAdvert) || n[8] == 0xff {
		return false
	}
	for o := n[NDLen:]; len(o) > 0; o = o[int(o[1])*8:] {
		if len(o) < 8 || o[1] == 0 || int(o[1])*8 > len(o) {
			return false
		}
	}
	return true
}

// Type is the ICMPv6 type.
func (n ND) Type() uint8 { return n[0] }

// Flags are the flags of an advertisement.
func (n ND) Flags() uint8 { return n[4] }

// Target is the target address.
func (n ND) Target() netip.Addr { return netip.AddrFrom16([16]byte(n[8:24])) }

// LinkAddr finds a link-layer address option.
func (n ND) LinkAddr(option uint8) (MAC, bool) {
	for o := n[NDLen:]; len(o) >= 8; o = o[int(o[1])*8:] {
		if o[0] == option && o[1] == 1 {
			return MAC(o[2:8]), true
		}
	}
	return MAC{}, false
}

// ChecksumOK6 verifies the checksum of an ICMPv6 message.
func ChecksumOK6(src, dst netip.Addr, msg []byte) bool {
	s, d := src.As16(), dst.As16()
	return Fold(Sum(Pseudo6(&s, &d, ProtoICMPv6, len(msg)), msg)) == 0xffff
}

// SetChecksum6 writes the checksum of an ICMPv6 message.
func SetChecksum6(src, dst netip.Addr, msg []byte) {
	s, d := src.As16(), dst.As16()
	msg[2], msg[3] = 0, 0
	binary.BigEndian.PutUint16(msg[2:4], ^Fold(Sum(Pseudo6(&s, &d, ProtoICMPv6, len(msg)), msg)))
}

// PutND writes a solicitation or advertisement with one link-layer address
// option (none if mac is zero) to b and returns its length; the checksum is
// not set.
func PutND(b []byte, typ, flags uint8, target netip.Addr, mac MAC) int {
	clear(b[:NDLen])
	b[0], b[4] = typ, flags
	t := target.As16()
	copy(b[8:24], t[:])
	if mac == (MAC{}) {
		return NDLen
	}
	b[NDLen], b[NDLen+1] = NDOptTarget, 1
	if typ == NDNeighborSolicit {
		b[NDLen] = NDOptSource
	}
	copy(b[NDLen+2:], mac[:])
	return NDLen + NDOptLen
}

// SolicitedNode is the solicited-node multicast address (RFC 4291, 2.7.1).
func SolicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// MulticastMAC is the Ethernet address of an IPv6 multicast address (RFC 2464, 7).
func MulticastMAC(a netip.Addr) MAC {
	b := a.As16()
	return MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
