package router

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"godwit/event"
	"godwit/fib"
	"godwit/rib"
)

// recording is a file that grows while the loop runs.
type recording struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

// life is what a RIB goes through: interfaces, static and leaked routes, BGP
// batches of a speaker that dies and comes back with fewer, and changes of mind.
func life() [][]rib.Update {
	const red, blue = fib.VRF(7), fib.VRF(8)
	bgp := func(from, to int, hop string, pref uint32) rib.BGPRoutes {
		u := rib.BGPRoutes{VRF: red}
		for i := from; i < to; i++ {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24)
			path := rib.Path{NextHop: netip.MustParseAddr(hop), Peer: netip.MustParseAddr(hop), PeerAS: 65001, LocalPref: pref, Communities: "c1 c2"}
			u.Routes = append(u.Routes, rib.BGPRoute{Prefix: p, Paths: []rib.Path{path}})
		}
		return u
	}
	withdraw := rib.BGPRoutes{VRF: red, Routes: []rib.BGPRoute{{Prefix: netip.MustParsePrefix("20.0.5.0/24")}}}
	return [][]rib.Update{
		{rib.AddVRF{VRF: red}, rib.AddVRF{VRF: blue}, rib.SetVRF{VRF: red, Options: rib.VRFOptions{Name: "red", Limit: 9000, Warn: 8000}}},
		{rib.SetInterface{Interface: rib.Interface{ID: 1, Name: "a", VRF: red, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}}},
		{rib.SetInterface{Interface: rib.Interface{ID: 2, Name: "b", VRF: red, Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24"), netip.MustParsePrefix("2001:db8::1/64")}}}},
		{rib.SetStatic{VRF: red, Route: rib.StaticRoute{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Tag: 5, Vias: []rib.Via{{Address: netip.MustParseAddr("10.0.0.9"), Weight: 3}, {Interface: 2, Backup: true}}}}},
		{rib.SetStatic{VRF: red, Route: rib.StaticRoute{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Kind: fib.Blackhole, Distance: 9}}},
		{rib.SetLeak{From: red, To: blue, Rules: []rib.LeakRule{{Import: rib.Match{Protocols: []rib.Protocol{rib.Static, rib.BGP}}, Distance: 50}}}},
		{bgp(0, 2000, "10.0.0.2", 100)}, {bgp(1000, 4000, "10.0.1.2", 200)}, {withdraw},
		{rib.MarkStale{VRF: red, Protocol: rib.BGP}}, {bgp(0, 1500, "10.0.0.2", 100)}, {rib.Sweep{VRF: red, Protocol: rib.BGP}},
		{rib.DeleteStatic{VRF: red, Prefix: netip.MustParsePrefix("198.51.100.0/24"), Distance: 9}},
		{rib.SetInterface{Interface: rib.Interface{ID: 2, Name: "b", VRF: red, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.1/24")}}}},
		{rib.BGPRoutes{VRF: 99, Routes: withdraw.Routes}}, // there is none
		{rib.AddVRF{VRF: 9}, rib.RemoveVRF{VRF: 9}, rib.RemoveInterface{ID: 77}, rib.DeleteLeak{From: blue, To: red}},
	}
}

// content is all that a table has chosen.
func content(t *rib.Table) map[fib.VRF][]rib.Route {
	out := map[fib.VRF][]rib.Route{}
	for _, v := range []fib.VRF{7, 8} {
		for c, done := (rib.Cursor{}), false; !done; {
			var list []rib.Route
			list, c, done = t.Page(v, rib.Filter{}, c, 1000)
			out[v] = append(out[v], list...)
		}
	}
	return out
}

// TestReplayOfRoutes records the real loop of a RIB and replays it: the same
// routes, groups and rejects come of it, twice.
func TestReplayOfRoutes(t *testing.T) {
	l := event.New("live")
	var file recording
	rec := l.Record(&file)
	live := newRoutes(l.Handler("routes", event.Normal), slog.New(slog.DiscardHandler))
	live.onBest, live.onRoom = func([]rib.BestChange) {}, func(fib.VRF) {}
	ended := make(chan error, 1)
	go func() { ended <- l.Run(t.Context()) }()
	inputs := life()
	for _, u := range inputs {
		if err := live.h.Post(func() { live.apply(u...) }); err != nil {
			t.Fatal(err)
		}
	}
	idle := make(chan bool)
	for deadline := time.Now().Add(30 * time.Second); ; {
		if err := live.h.Post(func() { idle <- !live.working && !live.table.More() }); err != nil {
			t.Fatal(err)
		}
		if <-idle {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the RIB does not come to rest")
		}
	}
	l.Stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	want, stats := content(live.table), live.table.Stats()
	if len(want[7]) < 1000 || len(want[8]) < 1000 || stats.Rejected == 0 {
		t.Fatalf("the recorded life was dull: %d and %d routes, %+v", len(want[7]), len(want[8]), stats)
	}
	reject := fmt.Sprint(stats.LastReject)
	stats.LastReject = nil
	for range 2 {
		got, err := Replay(bytes.NewReader(file.b.Bytes()), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got.Inputs != len(inputs) || got.Changes == 0 || got.To.Before(got.From) || time.Since(got.From) > time.Hour {
			t.Errorf("%+v", got)
		}
		if !reflect.DeepEqual(content(got.Table), want) {
			t.Error("other routes than in life")
		}
		s := got.Table.Stats()
		if fmt.Sprint(s.LastReject) != reject {
			t.Errorf("reject %v, in life %v", s.LastReject, reject)
		}
		if s.LastReject = nil; s != stats {
			t.Errorf("%+v, in life %+v", s, stats)
		}
	}
}

// TestUpdatesSurviveJSON: all kinds there are, with all their fields.
func TestUpdatesSurviveJSON(t *testing.T) {
	for _, u := range life() {
		data, err := json.Marshal(updates(u))
		if err != nil {
			t.Fatal(err)
		}
		var back updates
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, updates(u)) {
			t.Errorf("%v\n%+v\n%+v", err, back, u)
		}
	}
	sources, err := filepath.Glob("../../rib/*.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range sources {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`func \((?:\w+ )?(\w+)\) apply\(`).FindAllSubmatch(src, -1) {
			n++
			typ, ok := updateTypes[string(m[1])]
			if !ok {
				t.Errorf("%s cannot be recorded", m[1])
				continue
			}
			for i := range typ.NumField() {
				if !typ.Field(i).IsExported() {
					t.Errorf("field %s of %s is not recorded", typ.Field(i).Name, m[1])
				}
			}
		}
	}
	if n != len(updateTypes) {
		t.Errorf("%d kinds of updates in rib, %d here", n, len(updateTypes))
	}
}

func TestReplayFaults(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":         "x\n",
		"another loop's":  `{"at":"2026-01-02T03:04:05Z","input":"boot","value":{}}` + "\n",
		"unknown update":  `{"at":"2026-01-02T03:04:05Z","input":"routes","value":[{"type":"Frobnicate","update":{}}]}` + "\n",
		"another's field": `{"at":"2026-01-02T03:04:05Z","input":"routes","value":[{"type":"AddVRF","update":{"VRF":"red"}}]}` + "\n",
		"no list":         `{"at":"2026-01-02T03:04:05Z","input":"routes","value":7}` + "\n",
	} {
		if _, err := Replay(strings.NewReader(text), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "replay line 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := Replay(strings.NewReader(""), slog.New(slog.DiscardHandler))
	if err != nil || got.Inputs != 0 {
		t.Errorf("empty: %+v, %v", got, err)
	}
}

// FuzzReplayRoutes: whatever a file says, the RIB refuses or takes it.
func FuzzReplayRoutes(f *testing.F) {
	for _, u := range life()[:6] {
		data, err := json.Marshal(updates(u))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add(`[{"type":"BGPRoutes","update":{"VRF":7,"Routes":[{"Prefix":"","Paths":[{}]}]}}]`)
	f.Fuzz(func(t *testing.T, value string) {
		line := `{"at":"2026-01-02T03:04:05Z","input":"routes","value":[{"type":"AddVRF","update":{"VRF":7}}]}` + "\n" +
			`{"at":"2026-01-02T03:04:06Z","input":"routes","value":` + strings.ReplaceAll(value, "\n", " ") + "}\n"
		_, _ = Replay(strings.NewReader(line), slog.New(slog.DiscardHandler))
	})
}
