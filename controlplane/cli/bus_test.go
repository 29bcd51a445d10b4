package cli

import (
	"regexp"
	"strings"
	"testing"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
)

func TestBusViews(t *testing.T) {
	v := mgmt.Bus{
		Links:      []mgmt.BusLink{{Name: "linecard-1", Peer: 7, Up: true, ToleranceMS: 5000, SilentMS: 12}, {Peer: 9, ToleranceMS: 1500, SilentMS: -1}, {Transport: "tipc", Name: "1:eth8-2:eth8", Peer: 2, Up: true}},
		Multicasts: []mgmt.BusMulticast{{Transport: "tipc", Sent: 240, Bytes: 7_900_000, Busy: 3}},
		Downloads: []mgmt.BusDownload{
			{Card: 2, Takes: true, Named: 240, Again: 1, Whole: 17, Seen: &wire.FIBCastStats{Received: 239, Forged: 4, Foreign: 5, Malformed: 6, Dropped: 8}},
			{Card: 3, Whole: 255, Error: "line card 3 is not connected"},
		},
		Nodes: []mgmt.BusNode{{Node: 1, Up: true, Own: true}, {Node: 2, Up: true, Cards: []mgmt.Member{{Card: 2, State: "joining"}, {Card: 3, State: "up"}}}, {Node: 7}},
	}
	var links, nodes, casts strings.Builder
	textMulticast(&casts, v)
	for _, want := range []string{`tipc +240 +7900000 +0 +3`, `2 +multicast +240 +1 +17 +239 +4 +11 +8`, `3 +unicast +0 +0 +255 +line card 3 is not connected`} {
		if !regexp.MustCompile(want).MatchString(casts.String()) {
			t.Errorf("no %s in\n%s", want, casts.String())
		}
	}
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
	for _, line := range []string{"show bus", "show bus names", "show bus links", "show bus nodes", "show bus multicast"} {
		if err := Check(strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}
