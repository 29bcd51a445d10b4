package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"godwit/cluster/wire"
	"godwit/controlplane/mgmt"
	"godwit/event"
)

var update = flag.Bool("update", false, "rewrite testdata/show.txt")

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// twin is a routing engine with a fixed state.
func twin() mgmt.Backend {
	hop := []mgmt.ResolvedHop{{Interface: "red-up", Gateway: addr("10.0.0.2"), Weight: 1}}
	routes := []mgmt.Route{
		{VRF: "red", Prefix: prefix("10.0.0.0/24"), Installed: true, Group: 1, Candidates: []mgmt.Candidate{{Protocol: "connected", Kind: "forward", Chosen: true, Reason: "the only usable one", Resolved: []mgmt.ResolvedHop{{Interface: "red-up"}}}}},
		{VRF: "red", Prefix: prefix("192.0.2.0/24"), Installed: true, Group: 2, Candidates: []mgmt.Candidate{
			{Protocol: "static", Distance: 1, Tag: 7, Kind: "forward", Chosen: true, Reason: "lower distance than bgp", Resolved: append(hop, mgmt.ResolvedHop{Interface: "red-b", Gateway: addr("10.0.2.2"), Weight: 3, Backup: true}),
				NextHops: []mgmt.RouteNextHop{{Address: addr("10.0.0.2"), Usable: true, Chain: []string{"10.0.0.2: through connected 10.0.0.0/24"}}}},
			{Protocol: "bgp", Distance: 20, Kind: "forward", Reason: "higher distance", Stale: true, NextHops: []mgmt.RouteNextHop{{Address: addr("10.9.9.9")}},
				Paths: []mgmt.BGPPath{{NextHop: addr("10.9.9.9"), Peer: addr("10.0.0.2"), PeerAS: 65101, LocalPref: 100, ASPathLen: 2}}}}},
		{VRF: "red", Prefix: prefix("203.0.113.0/24"), Candidates: []mgmt.Candidate{{Protocol: "static", Distance: 1, Kind: "forward", Reason: "next hop unresolved", NextHops: []mgmt.RouteNextHop{{Address: addr("10.9.9.9")}}}}},
	}
	b := mgmt.Backend{
		Version: func(context.Context) (mgmt.Version, error) {
			return mgmt.Version{Product: "godwit", Version: "1.2.3", Go: "go1.26", Hostname: "r1", Instance: "godwit", Uptime: 90 * time.Minute}, nil
		},
		Modules: func(context.Context) (mgmt.Modules, error) {
			return mgmt.Modules{Modules: []wire.ModuleStatus{{Name: "router", Role: "router", State: "running", PID: 7, Version: "1.2.3", KeyID: "abcd", Verify: "verified only"},
				{Name: "linecard-1", Role: "linecard", State: "refused", Reason: "signature does not match", Verify: "verified only"},
				{Name: "linecard-2", Role: "linecard", State: "running", PID: 3, Version: "1.2.3", Verify: "verified only", Node: 2}},
				Members: []mgmt.Member{{Card: 1, Node: 1, State: "absent", Reason: "no port"}, {Card: 2, Node: 2, State: "up", Joins: 1, TookMS: 12}}}, nil
		},
		Interfaces: func(_ context.Context, name string) (mgmt.Interfaces, error) {
			if name != "" && name != "red-up" {
				return mgmt.Interfaces{}, &mgmt.Error{Status: 404, Message: "no interface " + name}
			}
			return mgmt.Interfaces{Interfaces: []mgmt.Interface{{Name: "red-up", VRF: "red", Card: 1, Device: "eth1", VLAN: 5, Admin: "up", State: "up", MTU: 1500, MAC: "02:00:00:00:00:01", Mode: "native copy", Express: "receive", ExpressReason: "the driver takes no redirected frames", Queues: 1,
				Addresses: []netip.Prefix{prefix("10.0.0.1/24"), prefix("fe80::1/64")}, Counters: wire.Counters{RxPackets: 1, RxBytes: 64, TxPackets: 2, TxBytes: 128, Drops: 3, Punts: 4}}}}, nil
		},
		Sampling: func(context.Context) (mgmt.Sampling, error) {
			return mgmt.Sampling{Cards: []mgmt.SamplingCard{
				{Card: 1, Interfaces: []mgmt.SamplingInterface{{Name: "red-up", SampledInterface: wire.SampledInterface{ID: 65543, Rate: 1000, Samples: 7, Pool: 7100, Express: 5}}},
					Collectors: []mgmt.SamplingCollector{{VRFName: "red", CollectorStatus: wire.CollectorStatus{Datagrams: 3, Bytes: 900, Samples: 7, Counters: 1,
						SampleCollector: wire.SampleCollector{Name: "flows", Protocol: "sflow", Address: addr("10.2.0.50"), Port: 6343, Source: addr("10.1.0.1")}}}}, Lost: 2},
				{Card: 2, Error: "line card 2 is not connected"}}}, nil
		},
		Guards: func(_ context.Context, acl string) (mgmt.Guards, error) {
			if acl == "nope" {
				return mgmt.Guards{}, &mgmt.Error{Status: 404, Message: "no such ACL: nope"}
			}
			return mgmt.Guards{Cards: []mgmt.GuardCard{{Card: 1, Unlogged: 4, Guards: []mgmt.Guard{
				{Name: "red-up", Texts: []string{"deny from 192.0.2.0/24 log", "permit"}, GuardStatus: wire.GuardStatus{ACL: "edge", Hits: []uint64{3, 5}, Unfitted: 1, RPF: "strict", Spoofed: 2}},
				{Name: "red-up", GuardStatus: wire.GuardStatus{Out: true, Policer: &wire.PolicerStatus{PolicerConfig: wire.PolicerConfig{Rate: 10_000_000, Peak: 1_500_000_000}, Packets: 7, OverPackets: 6, DropPackets: 5}}}}},
				{Card: 2, Error: "line card 2 is not connected"}}}, nil
		},
		Mirrors: func(context.Context) (mgmt.Mirrors, error) {
			return mgmt.Mirrors{Mirrors: []mgmt.Mirror{
				{Card: 1, Interfaces: []string{"red-up", "red-b"}, Direction: "both", ACL: "web", MirrorStatus: wire.MirrorStatus{Name: "span", Device: "eth7", Up: true, Matched: 9, Frames: 8, Bytes: 800, Dropped: 1}},
				{Card: 1, Interfaces: []string{"red-up"}, Direction: "in", MirrorStatus: wire.MirrorStatus{Name: "other", Device: "eth8", Reason: "port eth8: no such device"}}}}, nil
		},
		Routes: func(_ context.Context, q mgmt.RouteQuery, f func(mgmt.Route) error) error {
			for _, r := range routes {
				if q.VRF != "" && q.VRF != r.VRF || q.Address.IsValid() && !r.Prefix.Contains(q.Address) {
					continue
				}
				if err := f(r); err != nil {
					return err
				}
			}
			return nil
		},
		RouteChanges: func(_ context.Context, q mgmt.RouteChangeQuery) (mgmt.RouteChanges, error) {
			c := mgmt.RouteChange{Time: time.Unix(0, 0).UTC(), VRF: q.VRF, Prefix: prefix("192.0.2.0/24"), New: &mgmt.Installed{Protocol: "static", From: "blue", Group: 7}}
			return mgmt.RouteChanges{Changes: []mgmt.RouteChange{c}, Total: 9}, nil
		},
		FIB: func(_ context.Context, _ mgmt.FIBQuery, f func(mgmt.FIBRoute) error) error {
			return f(mgmt.FIBRoute{Card: 1, VRF: "red", Prefix: prefix("192.0.2.0/24"), Group: 2, Kind: "forward", NextHops: hop, ExpressPackets: 7, ExpressBytes: 700})
		},
		FIBSummary: func(context.Context) (mgmt.FIBSummary, error) {
			return mgmt.FIBSummary{Routes4: 3, Routes6: 1, Groups: 2, Cards: []mgmt.FIBCard{
				{Card: 1, Connected: true, Converged: true, Epoch: 1, Sent: 9, Acked: 9, Groups: 2, VRFs: []mgmt.FIBVRF{{VRF: "red", Routes4: 3, Routes6: 1, Bytes: 2048}}}, {Card: 2}}}, nil
		},
		Neighbors: func(context.Context, mgmt.NeighborQuery) (mgmt.Neighbors, error) {
			return mgmt.Neighbors{Neighbors: []mgmt.Neighbor{{VRF: "red", Interface: "red-up", Address: addr("10.0.0.2"), MAC: "02:00:00:00:00:02", State: "reachable", Age: 3 * time.Second}}}, nil
		},
		BGP: func(context.Context, string) (mgmt.BGP, error) {
			return mgmt.BGP{Speakers: []mgmt.Speaker{{VRF: "red", AS: 65010, RouterID: addr("10.0.0.1"), Connected: true, Synced: true,
				Peers: []wire.PeerStatus{{Address: addr("10.0.0.2"), AS: 65101, State: "established", Received: 5, Accepted: 4, Advertised: 3, Description: "up"}}}, {VRF: "blue", AS: 65020, Stale: true}}}, nil
		},
		Bus: func(context.Context) (mgmt.Bus, error) {
			return mgmt.Bus{Names: []wire.NameEntry{{Type: 102, Lower: 1, Upper: 1, Ref: 5, PID: 9, Name: "linecard-1"}}}, nil
		},
		Drops: func(context.Context, uint16) (mgmt.Drops, error) {
			return mgmt.Drops{Cards: []mgmt.CardDrops{{Card: 1, Drops: []wire.Drop{{Node: "ip4-input", Reason: "bad-checksum", Count: 3, Help: "header checksum is wrong"}, {Node: "ip4-input", Reason: "truncated"}}}, {Card: 2, Error: "no answer"}}}, nil
		},
		BFD: func(_ context.Context, vrf string) (mgmt.BFD, error) {
			return mgmt.BFD{Sessions: []mgmt.BFDSession{{Card: 1, VRFName: "red", InterfaceName: "red-up", Clients: []string{"bgp", "static 10.0.0.0/8", "static 10.1.0.0/16", "static 10.2.0.0/16"},
				BFDStatus: wire.BFDStatus{Peer: addr("10.0.0.2"), State: "down", Failed: true, Tx: time.Second, Rx: 50 * time.Millisecond, Detection: 150 * time.Millisecond,
					Diag: "detection time expired", Age: 3 * time.Second, Sent: 10, Received: 9, Auth: "sha1", Discriminator: 77}},
				{Card: 1, VRFName: "red", BFDStatus: wire.BFDStatus{Peer: addr("192.0.2.1"), State: "up", Age: time.Hour, Auth: "none", Diag: "none"}}},
				Cards: []mgmt.BFDCard{{Card: 1, Sessions: 2, Up: 1, Sent: 10, Received: 9, LateMost: 731, Drops: []wire.Drop{{Reason: "ttl", Count: 4, Help: "from afar"}}}, {Card: 2, Error: "not connected"}}}, nil
		},
		Events: func(context.Context, string) (mgmt.Events, error) {
			return mgmt.Events{Modules: []mgmt.ModuleEvents{{Module: "router", Stats: &event.Stats{Loop: "router"}}, {Module: "bgp-red", Error: "no answer"}}}, nil
		},
		Config: func(context.Context) ([]byte, error) { return []byte("system: {hostname: r1}\n"), nil },
		ClearNeighbors: func(context.Context, mgmt.NeighborQuery) (mgmt.Done, error) {
			return mgmt.Done{Message: "1 neighbour forgotten"}, nil
		},
		ResetBGP: func(_ context.Context, q mgmt.ResetQuery) (mgmt.Done, error) {
			return mgmt.Done{Message: fmt.Sprintf("session with %v reset", q.Address)}, nil
		},
		Ping: func(_ context.Context, q mgmt.PingQuery, f func(mgmt.PingLine) error) error {
			lines := []mgmt.PingLine{{Seq: 1, From: q.Address, Bytes: 64, RTT: time.Millisecond}, {Seq: 2, Error: "timeout"}, {Summary: &mgmt.PingSummary{Sent: 2, Received: 1, Min: time.Millisecond, Avg: time.Millisecond, Max: time.Millisecond}}}
			for _, l := range lines {
				if err := f(l); err != nil {
					return err
				}
			}
			return nil
		},
	}
	return b
}

// TestOutput runs the command lines of testdata/show.txt and compares what they print.
func TestOutput(t *testing.T) {
	dir := t.TempDir()
	s, err := mgmt.Serve(filepath.Join(dir, "mgmt.sock"), twin(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	const file = "testdata/show.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for line := range strings.Lines(string(text)) {
		cmd, ok := strings.CutPrefix(line, "$ godwit ")
		if !ok {
			continue
		}
		got.WriteString(line)
		code := Execute(t.Context(), append(strings.Fields(cmd), "--run-dir", dir), &got, &got)
		if code != 0 {
			fmt.Fprintf(&got, "[%d]\n", code)
		}
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(text) {
		t.Errorf("output differs (go test -update rewrites it):\n%s", got.String())
	}
}
