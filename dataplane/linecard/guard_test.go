package linecard

import (
	"net/netip"
	"testing"

	"godwit/cluster/wire"
)

// TestGuards: an interface with an access list, a check of sources or a policer sends its frames through the
// workers, which apply it; the other directions stay express.
func TestGuards(t *testing.T) {
	r, cfg := expressCard(t)
	h1, h2 := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2")
	udp := uint8(17)
	cfg.ACLs = []wire.ACLConfig{{Name: "edge", Rules: []wire.FilterRule{{Deny: true, Log: true, Protocol: &udp, SrcPorts: []wire.PortRange{{First: 0x1000, Last: 0x1000}}}, {}}}}
	cfg.Interfaces[0].Ingress = &wire.GuardConfig{ACL: "edge", RPF: "strict"}
	r.configure(cfg)
	r.expressIs(1, "transmit")
	r.expressIs(2, "on")
	if p := r.status(1); p.ExpressReason == "" {
		t.Errorf("port %+v", p)
	}
	denied := r.drop(1, "ip4-guard", "acl-in")
	mac := r.status(1).MAC
	for range 5 {
		r.send("h1", udp4(mac, 0, h1, h2, "denied"))
	}
	eventually(t, "denied packets", func() bool { return r.drop(1, "ip4-guard", "acl-in") == denied+5 })
	r.ping("h1", "10.2.0.2")
	icmp := udp4(mac, 0, netip.MustParseAddr("10.2.0.77"), h2, "spoofed")
	icmp[34] = 0x30 // from another port: the list lets it in
	spoofed := r.drop(1, "ip4-guard", "urpf")
	r.send("h1", icmp)
	eventually(t, "spoofed packet", func() bool { return r.drop(1, "ip4-guard", "urpf") == spoofed+1 })
	list := get[wire.GuardList](r, 1, wire.GetGuards, struct{}{})
	if len(list.Guards) != 1 {
		t.Fatalf("%+v", list)
	}
	if g := list.Guards[0]; g.Out || g.ACL != "edge" || len(g.Hits) != 2 || g.Hits[0] != 5 || g.Hits[1] == 0 || g.Unfitted != 0 || g.RPF != "strict" || g.Spoofed != 1 {
		t.Errorf("%+v", g)
	}
	// The same again keeps the counters; another list begins anew. A policer on the way out.
	cfg.Interfaces[0].Egress = &wire.GuardConfig{Policer: &wire.PolicerConfig{Rate: 8000, Burst: 9000}}
	r.configure(cfg)
	r.expressIs(1, "off")
	list = get[wire.GuardList](r, 1, wire.GetGuards, struct{}{})
	if len(list.Guards) != 2 || list.Guards[0].Hits[0] != 5 {
		t.Fatalf("%+v", list)
	}
	back := udp4(r.status(2).MAC, 0, h2, h1, string(make([]byte, 100)))
	for range 200 {
		r.send("h2", back)
	}
	eventually(t, "policed packets", func() bool {
		g := get[wire.GuardList](r, 1, wire.GetGuards, struct{}{}).Guards[1]
		return g.Out && g.Policer != nil && g.Policer.DropPackets > 50 && g.Policer.Packets > 50
	})
	for name, bad := range map[string]wire.GuardConfig{"list": {ACL: "none"}, "mode": {RPF: "feasible"}, "policer": {Policer: &wire.PolicerConfig{Rate: 1}}} {
		x := cfg
		x.Interfaces = append([]wire.InterfaceConfig(nil), cfg.Interfaces...)
		x.Interfaces[0].Ingress = &bad
		if _, err := ask[wire.CardResult](r, 1, wire.SetCard, x); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg.Interfaces[0].Ingress, cfg.Interfaces[0].Egress, cfg.ACLs = nil, nil, nil
	r.configure(cfg)
	r.expressIs(1, "on")
	if in, _ := r.flow(10); in.Express != 10 {
		t.Errorf("behind it: counted %+v", in)
	}
}
