package cli

import (
	"strings"
	"testing"

	"godwit/controlplane/mgmt"
)

func TestBusViews(t *testing.T) {
	v := mgmt.Bus{
		Links: []mgmt.BusLink{{Name: "linecard-1", Peer: 7, Up: true, ToleranceMS: 5000, SilentMS: 12}, {Peer: 9, ToleranceMS: 1500, SilentMS: -1}, {Transport: "tipc", Name: "1:eth8-2:eth8", Peer: 2, Up: true}},
		Nodes: []mgmt.BusNode{{Node: 1, Up: true, Own: true}, {Node: 2, Up: true, Cards: []mgmt.Member{{Card: 2, State: "joining"}, {Card: 3, State: "up"}}}, {Node: 7}},
	}
	var links, nodes strings.Builder
	textLinks(&links, v)
	textNodes(&nodes, v)
	for _, want := range []string{"linecard-1", "5000 ms", "12 ms ago", "down", "standby", "tipc"} {
		if !strings.Contains(links.String(), want) {
			t.Errorf("no %q in\n%s", want, links.String())
		}
	}
	for _, want := range []string{"1 (this)  up", "2 joining, 3 up", "7         down"} {
		if !strings.Contains(nodes.String(), want) {
			t.Errorf("no %q in\n%s", want, nodes.String())
		}
	}
	for _, line := range []string{"show bus", "show bus names", "show bus links", "show bus nodes"} {
		if err := Check(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
