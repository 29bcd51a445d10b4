package bfd

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"godwit/dataplane/header"
)

func dur(ns int64) time.Duration { return time.Duration(ns) }

// FuzzDecode: any bytes decode or are refused, and what decodes encodes to the
// same mandatory section.
func FuzzDecode(f *testing.F) {
	p := Packet{State: Up, Poll: true, Multiplier: 3, My: 1, Your: 2, MinTx: 1, MinRx: 2, MinEcho: 3}
	f.Add(p.Append(nil))
	p.Auth = true
	f.Add((&Auth{Type: KeyedMD5, Key: "x"}).sign(p.Append(nil), 1))
	f.Add((&Auth{Type: Simple, Key: "x"}).sign(p.Append(nil), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, body, section, why := Decode(b)
		if why != passed {
			return
		}
		again := p.Append(nil)
		again[3] = body[3]
		if string(again) != string(body[:headerLen]) || p.Auth != (section != nil) {
			t.Errorf("%x became %x", body[:headerLen], again)
		}
		for typ := Simple; typ <= MeticulousSHA1; typ++ {
			if section != nil {
				_, _ = (&Auth{Type: typ, KeyID: 1, Key: "secret"}).verify(body, section)
			}
		}
	})
}

// FuzzReceive: no IP packet crashes the core, and none without the key changes
// the state of a session with authentication.
func FuzzReceive(f *testing.F) {
	local, peer := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	p := Packet{State: Down, Multiplier: 3, My: 1}
	f.Add(appendDatagram(nil, peer, local, 50000, PortControl, p.Append(nil)))
	f.Add(appendDatagram(nil, peer, local, 50000, PortEcho, []byte("echo")))
	f.Add(appendDatagram(nil, peer, local, 50000, PortMultihop, p.Append(nil)))
	f.Add(appendDatagram(nil, netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2"), 50000, PortControl, p.Append(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New(rand.New(rand.NewPCG(1, 1)))
		cfg := Config{VRF: 1, Interface: 1, Peer: peer, Local: local, MinTx: 50e6, MinRx: 50e6, MinEcho: 50e6, Multiplier: 3,
			Auth: Auth{Type: MeticulousSHA1, Key: "0123456789abcdefghij"}}
		c.Set(0, []Config{cfg})
		c.Receive(1, 1, 1, b)
		if h := header.IPv4(b); h.IsValid() { // once more with a good checksum of everything, to come further
			h.SetChecksum()
			c.Receive(2, 1, 1, b)
		}
		if s := c.Sessions(3)[0]; s.State != Down || s.Received != 0 {
			t.Errorf("accepted: %+v", s)
		}
		c.Advance(5e9)
		c.Drain()
	})
}
