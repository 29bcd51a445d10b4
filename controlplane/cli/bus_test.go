package cli

import (
	"strings"
	"testing"

	"godwit/controlplane/mgmt"
)

func TestBusViews(t *testing.T) {
	v := mgmt.Bus{
		Links: []mgmt.BusLink{{Name: "linecard-1", Peer: 7, Up: true, ToleranceMS: 5000, SilentMS: 12}, {Peer: 9, ToleranceMS: 1500, SilentMS: -1}},
		Nodes: []mgmt.BusNode{{Node: 1, Up: true}},
	}
	var links, nodes strings.Builder
	textLinks(&links, v)
	textNodes(&nodes, v)
	for _, want := range []string{"linecard-1", "5000 ms", "12 ms ago", "down"} {
		if !strings.Contains(links.String(), want) {
			t.Errorf("no %q in\n%s", want, links.String())
		}
	}
	if !strings.Contains(nodes.String(), "1     up") {
		t.Errorf("nodes:\n%s", nodes.String())
	}
	for _, line := range []string{"show bus", "show bus names", "show bus links", "show bus nodes"} {
		if err := Check(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
