package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/bgp/bgptest"
)

// pair makes two namespaces with a link: the router 10.0.0.1, 2001:db8::1 and
// the peer 10.0.0.2, 2001:db8::2.
func pair(t *testing.T) (n *bgptest.Net, router, peer *bgptest.Space) {
	t.Helper()
	n = newNet(t)
	router, peer = space(t, n, "r"), space(t, n, "p")
	link(t, n, router, peer, "eth0", "10.0.0.1/24 2001:db8::1/64", "10.0.0.2/24 2001:db8::2/64")
	return n, router, peer
}

var netCount atomic.Int32 // tests run in parallel

func newNet(t *testing.T) *bgptest.Net {
	t.Helper()
	n, err := bgptest.NewNet(fmt.Sprintf("gwt-bgp-%d-%d", os.Getpid(), netCount.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func space(t *testing.T, n *bgptest.Net, name string) *bgptest.Space {
	t.Helper()
	s, err := n.Space(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func link(t *testing.T, n *bgptest.Net, a, b *bgptest.Space, dev, addrsA, addrsB string) {
	t.Helper()
	err := n.Link(bgptest.End{Space: a, Dev: dev, Addrs: strings.Fields(addrsA)}, bgptest.End{Space: b, Dev: dev, Addrs: strings.Fields(addrsB)})
	if err != nil {
		t.Fatal(err)
	}
}

// speaker is a configuration of AS 65001 with these neighbours.
func speaker(peers ...wire.SpeakerPeer) wire.SpeakerConfig {
	return wire.SpeakerConfig{VRF: "red", AS: 65001, RouterID: netip.MustParseAddr("10.0.0.1"), Port: 179,
		GracefulRestart: 20 * time.Second, Multipath: 1, Neighbors: peers}
}

// neighbor is a neighbour whose routes are accepted and that gets ours.
func neighbor(addr string, as uint32) wire.SpeakerPeer {
	return wire.SpeakerPeer{Address: netip.MustParseAddr(addr), AS: as, Import: accept, Export: local, Families: []string{ipv4}}
}

func birdConfig(id uint32, parts ...string) string {
	return fmt.Sprintf("log stderr all;\nrouter id 10.255.%d.%d;\nprotocol device {}\n%s\n", id>>8&255, id&255, strings.Join(parts, "\n"))
}

func birdPeer(name, addr string, as uint32, local string, localAS uint32, channels string) string {
	return fmt.Sprintf("protocol bgp %s { local %s as %d; neighbor %s as %d; graceful restart on; connect delay time 1; connect retry time 2; error wait time 1,2; startup hold time 20; %s }",
		name, local, localAS, addr, as, channels)
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
