package wire

import (
	"encoding/hex"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"godwit/fib"
)

var rewriteFIB = flag.Bool("rewrite-fib", false, "rewrite testdata/fib-batch.hex")

func sampleBatch() fib.Batch {
	route := func(op fib.Op, vrf fib.VRF, p string, g fib.GroupID) fib.Change {
		return fib.Change{Op: op, Route: fib.Route{VRF: vrf, Prefix: netip.MustParsePrefix(p), Group: g}}
	}
	return fib.Batch{Epoch: 7, Seq: 1 << 33, Sweep: true, Changes: []fib.Change{
		{Op: fib.SetGroup, Group: fib.Group{ID: 300, Kind: fib.Forward, NextHops: []fib.NextHop{
			{Interface: fib.MakeInterfaceID(1, 12), Gateway: netip.MustParseAddr("192.0.2.1"), Weight: 3},
			{Interface: fib.MakeInterfaceID(2, 65535), Gateway: netip.MustParseAddr("fe80::1")},
			{Interface: 1},
		}}},
		{Op: fib.SetGroup, Group: fib.Group{ID: 301, NextHops: []fib.NextHop{
			{Interface: 1, Gateway: netip.MustParseAddr("192.0.2.1"), Weight: 1},
			{Interface: 2, Gateway: netip.MustParseAddr("192.0.2.2"), Weight: 1, Backup: true},
			{Interface: 3, Weight: 1, Backup: true},
		}}},
		{Op: fib.SetGroup, Group: fib.Group{ID: 1, Kind: fib.Reject}},
		route(fib.SetRoute, 0, "0.0.0.0/0", 300),
		route(fib.SetRoute, 65535, "10.128.0.0/9", 1),
		route(fib.SetRoute, 2, "203.0.113.7/32", 1),
		route(fib.SetRoute, 2, "::/0", 1),
		route(fib.SetRoute, 2, "2001:db8:8000::/33", 300),
		route(fib.DeleteRoute, 2, "2001:db8::1/128", 0),
		route(fib.DeleteRoute, 2, "10.0.0.0/8", 0),
		{Op: fib.DeleteGroup, Group: fib.Group{ID: 4294967295}},
	}}
}

func TestFIBBatchGolden(t *testing.T) {
	got := hex.EncodeToString(AppendFIBBatch(nil, sampleBatch()))
	path := filepath.Join("testdata", "fib-batch.hex")
	if *rewriteFIB {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSpace(string(want)) {
		t.Errorf("encoding changed:\n got %s\nwant %s", got, want)
	}
	body, _ := hex.DecodeString(strings.TrimSpace(string(want)))
	b, err := DecodeFIBBatch(body)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(b, sampleBatch()) {
		t.Errorf("decoded %+v\nwant    %+v", b, sampleBatch())
	}
}

// Every cut of a valid body is either refused or ends between two changes.
func TestFIBBatchTruncated(t *testing.T) {
	whole := sampleBatch()
	body := AppendFIBBatch(nil, whole)
	ends := map[int]int{fibHeaderLen: 0}
	for i := range whole.Changes {
		b := whole
		b.Changes = b.Changes[:i+1]
		ends[len(AppendFIBBatch(nil, b))] = i + 1
	}
	for n := range body {
		b, err := DecodeFIBBatch(body[:n])
		if changes, ok := ends[n]; ok != (err == nil) || ok && len(b.Changes) != changes {
			t.Errorf("%d of %d bytes: %d changes, error %v", n, len(body), len(b.Changes), err)
		}
	}
}

func TestFIBBatchRefused(t *testing.T) {
	head := AppendFIBHeader(nil, 1, 1, false)
	for name, body := range map[string][]byte{
		"empty":             nil,
		"version":           {2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1},
		"flags":             {1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1},
		"operation 0":       append(head[:14:14], 0),
		"operation 5":       append(head[:14:14], 5, 1),
		"group as IPv6":     append(head[:14:14], 0x82, 1),
		"group 0":           append(head[:14:14], 2, 0),
		"host bits":         append(head[:14:14], 4, 0, 9, 10, 1),
		"length 33":         append(head[:14:14], 4, 0, 33, 10, 0, 0, 0, 0),
		"length 129":        append(append(head[:14:14], 0x84, 0, 129), make([]byte, 17)...),
		"IPv4-mapped":       append(append(head[:14:14], 0x84, 0, 128), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4),
		"route to group 0":  append(head[:14:14], 3, 0, 8, 10, 0),
		"number of 5 bytes": append(head[:14:14], 2, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"endless number":    append(head[:14:14], 2, 0xff),
		"65 next hops":      append(head[:14:14], 1, 1, 0, 65),
		"gateway of 5":      append(head[:14:14], 1, 1, 0, 1, 1, 0, 5, 1, 2, 3, 4, 5),
		"no next hop":       append(head[:14:14], 1, 1, 0, 0),
	} {
		if b, err := DecodeFIBBatch(body); err == nil {
			t.Errorf("%s: decoded %+v", name, b)
		}
	}
}

func FuzzFIBBatch(f *testing.F) {
	f.Add(AppendFIBBatch(nil, sampleBatch()))
	f.Add(AppendFIBHeader(nil, 1, 1, true))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := DecodeFIBBatch(body)
		if err != nil {
			return
		}
		again, err := DecodeFIBBatch(AppendFIBBatch(nil, b))
		if err != nil || len(again.Changes) != len(b.Changes) || len(b.Changes) > 0 && !reflect.DeepEqual(again, b) {
			t.Fatalf("%+v\nbecame %+v, %v", b, again, err)
		}
	})
}
