package linecard

import (
	"testing"

	"godwit/cluster/wire"
	"godwit/fib"
)

// oneCard is a card with two ports in red.
func oneCard(r *rig) wire.CardConfig {
	return wire.CardConfig{
		Card: 1, Workers: 1, Cards: []fib.CardID{1}, CaptureMax: 4,
		VRFs: []wire.VRFConfig{{ID: red, Name: "red", NetNS: r.netns("red"), TUN: "vrf0"}},
		Ports: []wire.PortConfig{
			{ID: portID(1, 1), Device: "p1", Mode: "auto"},
			{ID: portID(1, 2), Device: "p2", Mode: "auto"},
		},
		Interfaces: []wire.InterfaceConfig{
			{ID: ifaceID(1, 1), Name: "left", Port: portID(1, 1), VRF: red, MTU: 1500, Addresses: prefixes("10.1.0.1/24"), TAP: "left"},
			{ID: ifaceID(1, 2), Name: "right", Port: portID(1, 2), VRF: red, MTU: 1500, Addresses: prefixes("10.2.0.1/24"), TAP: "right"},
		},
	}
}

// twoPorts is a rig with one configured card between two hosts.
func twoPorts(t *testing.T) (*rig, wire.CardConfig) {
	t.Helper()
	r := newRig(t, "h1", "h2")
	r.host("h1", "p1", "10.1.0.2/24", "10.1.0.1")
	r.host("h2", "p2", "10.2.0.2/24", "10.2.0.1")
	r.stack("red", map[string]string{"left": "10.1.0.1/24", "right": "10.2.0.1/24"})
	r.start(1)
	cfg := oneCard(r)
	r.configure(cfg)
	r.setMAC("red", "left", portID(1, 1))
	r.setMAC("red", "right", portID(1, 2))
	r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 1), connected(red, ifaceID(1, 2), "10.2.0.1/24", 3)...)...)
	return r, cfg
}

func TestForwardsAndTalks(t *testing.T) {
	r, _ := twoPorts(t)
	r.ping("h1", "10.2.0.2")
	r.ping("h1", "10.1.0.1") // the router itself, through the TAP
	r.ping("h2", "10.1.0.1") // its far address
	r.ping("red", "10.1.0.2")
}
