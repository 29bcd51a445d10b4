package config

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

const withBFD = `
cards: [{id: 1}]
vrfs:
  - name: red
    id: 7
    static:
      - {prefix: 10.9.0.0/16, via: [{address: 10.0.0.2, bfd: true}]}
      - {prefix: "2001:db8::/32", via: [{address: fe80::2, interface: up, bfd: {interval: 50ms, auth: {type: sha1, key-id: 1, key: hush}}}]}
    bgp:
      as: 1
      router-id: 10.0.0.1
      neighbors:
        - {address: 10.0.0.2, as: 2, import: accept, export: local, bfd: true}
        - {address: fe80::2%up, as: 2, import: accept, export: local, bfd: {interval: 50ms, auth: {type: sha1, key-id: 1, key: hush}}}
        - {address: 10.5.0.2, as: 2, import: accept, export: local, local-address: 10.0.0.1, multihop: 3, bfd: true}
        - {address: 10.0.0.9, as: 2, import: accept, export: local, bfd: false}
interfaces: [{name: up, card: 1, device: e, vrf: red, addresses: [10.0.0.1/24]}]
`

func TestBFDSessionsAreNamed(t *testing.T) {
	c, err := Parse("x", []byte(withBFD))
	if err != nil {
		t.Fatal(err)
	}
	red := c.VRF("red")
	up := c.Interface("up").Number()
	onLink := BFDKey{VRF: 7, Interface: up, Peer: netip.MustParseAddr("10.0.0.2")}
	link6 := BFDKey{VRF: 7, Interface: up, Peer: netip.MustParseAddr("fe80::2")}
	far := BFDKey{VRF: 7, Peer: netip.MustParseAddr("10.5.0.2"), Local: netip.MustParseAddr("10.0.0.1")}
	for i, want := range []BFDKey{onLink, link6, far, {}} {
		if k, ok := red.BGP.Neighbors[i].BFDKey(c, red); k != want || ok != (i < 3) {
			t.Errorf("neighbor %d: %+v %v", i, k, ok)
		}
	}
	for i, want := range []BFDKey{onLink, link6} {
		if k, ok := red.Static[i].Via[0].BFDKey(c, red); k != want || !ok {
			t.Errorf("static %d: %+v %v", i, k, ok)
		}
	}
	if b := red.BGP.Neighbors[0].BFD; b.Interval != DefaultBFDInterval || b.Receive != DefaultBFDInterval || b.Multiplier != 3 {
		t.Errorf("defaults %+v", b)
	}
	if b := red.Static[1].Via[0].BFD; b.Receive != 50*time.Millisecond {
		t.Errorf("receive %v", b.Receive)
	}
}

func TestBFDKeysAreHidden(t *testing.T) {
	c, err := Parse("x", []byte(withBFD))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := Marshal(Redacted(c))
	if err != nil || bytes.Contains(shown, []byte("hush")) || bytes.Count(shown, []byte("********")) != 2 {
		t.Errorf("%s %v", shown, err)
	}
	kept, err := Marshal(c)
	if err != nil || bytes.Count(kept, []byte("hush")) != 2 {
		t.Errorf("the original lost its keys: %s", kept)
	}
	again, err := Parse("printed", kept)
	if err != nil || normal(again) != normal(c) || again.VRF("red").BGP.Neighbors[3].BFD.On() {
		t.Errorf("printed and parsed: %v\n%s", err, kept)
	}
}
