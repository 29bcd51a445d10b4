package neigh

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"godwit/dataplane/ethernet"
	"godwit/dataplane/header"
	"godwit/fib"
)

// linkRig is a table with one interface, 10.0.0.1/16 and fe80::1/64.
type linkRig struct {
	*Table
	t   *testing.T
	now time.Time
	in  *ethernet.Entry
}

var stationMAC = header.MAC{2, 0, 0, 0, 0, 99}

func newLinkRig(t *testing.T, proxy bool) *linkRig {
	r := &linkRig{Table: New(Limits{Entries: 131072, PerInterface: 100000, Incomplete: 512, Queue: 3, QueueTotal: 1024}), t: t, now: time.Unix(1000, 0)}
	list := []ethernet.Interface{{ID: fib.MakeInterfaceID(1, 1), Name: "lan", Port: fib.MakePortID(1, 1), MTU: 1500, Up: true, ProxyARP: proxy,
		MAC: [6]byte{2, 0, 0, 0, 0, 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/14"), netip.MustParsePrefix("fe80::1/64")}}}
	table, err := ethernet.NewTable(1, list, ethernet.NewSlots())
	if err != nil {
		t.Fatal(err)
	}
	r.SetInterfaces(r.now, table)
	r.in = table.Out(list[0].ID)
	return r
}

func (r *linkRig) arp(op uint16, sender, target string) bool {
	b := make([]byte, 46)
	header.PutARP(b, op, stationMAC, netip.MustParseAddr(sender), r.in.MAC, netip.MustParseAddr(target))
	return r.ARP(r.now, r.in, b)
}

func (r *linkRig) state(a string) string {
	e, ok := r.Get(KeyOf(r.in.ID, netip.MustParseAddr(a)))
	if !ok {
		return "none"
	}
	return e.State.String()
}

// question is an ARP request as the host stack sends it.
func (r *linkRig) question(target string) []byte {
	return arpFrame(r.in, header.Broadcast, header.ARPRequest, netip.MustParseAddr("10.0.0.1"), header.MAC{}, netip.MustParseAddr(target))
}

// TestAnswersToTheHostAreLearned, and answers that nobody asked for are not.
func TestAnswersToTheHostAreLearned(t *testing.T) {
	r := newLinkRig(t, false)
	if !r.arp(header.ARPReply, "10.0.0.9", "10.0.0.1") || r.state("10.0.0.9") != "none" {
		t.Fatal("an answer without a question was learned, or not copied to the host")
	}
	q := r.question("10.0.0.9")
	if !Question(q) {
		t.Fatal("a request is no question")
	}
	r.HostFrame(r.now, r.in, q)
	if !r.arp(header.ARPReply, "10.0.0.9", "10.0.0.1") || r.state("10.0.0.9") != "reachable" {
		t.Fatalf("the answer to the host stack left %s, want reachable", r.state("10.0.0.9"))
	}
	r.HostFrame(r.now, r.in, r.question("10.0.0.10"))
	r.now = r.now.Add(askedLife + time.Second)
	if r.arp(header.ARPReply, "10.0.0.10", "10.0.0.1"); r.state("10.0.0.10") != "none" {
		t.Error("an answer that came too late was learned")
	}
	for i := range 5000 {
		r.HostFrame(r.now, r.in, r.question(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String()))
	}
	if n := len(r.questions); n > askedMost {
		t.Errorf("%d questions are remembered", n)
	}
	solicit := ndFrame(r.in, header.MAC{2}, netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::9"), header.NDNeighborSolicit, 0, netip.MustParseAddr("fe80::9"))
	if !Question(solicit) {
		t.Error("a solicitation is no question")
	}
	for n := range solicit {
		Question(solicit[:n]) // must not crash
		Question(q[:min(n, len(q))])
	}
}

// TestDuplicateAddress: the probe is as RFC 5227 wants it; an answer is a conflict that is shown and defended.
func TestDuplicateAddress(t *testing.T) {
	r := newLinkRig(t, false)
	r.Drain()
	r.Probe(r.in, netip.MustParseAddr("10.0.0.1"))
	out := r.Drain()
	if len(out) != 1 || header.ARP(out[0].Frame[14:]).Sender() != netip.IPv4Unspecified() || header.ARP(out[0].Frame[14:]).Target() != netip.MustParseAddr("10.0.0.1") {
		t.Fatalf("probe %+v", out)
	}
	r.Probe(r.in, netip.MustParseAddr("fe80::1"))
	f := r.Drain()[0].Frame
	h := header.IPv6(f[14:])
	msg := header.ND(f[14+header.IPv6Len:])
	if !h.IsValid() || !h.Src().IsUnspecified() || !msg.IsValid() || msg.Target() != netip.MustParseAddr("fe80::1") ||
		!header.ChecksumOK6(h.Src(), h.Dst(), msg) {
		t.Fatalf("solicitation %x", f)
	}
	for range 3 {
		r.arp(header.ARPReply, "10.0.0.1", "10.0.0.1")
	}
	notices, defences := 0, 0
	for _, o := range r.Drain() {
		switch {
		case o.Kind == Notice && strings.Contains(o.Text, "10.0.0.1 is also claimed by 02:00:00:00:00:63"):
			notices++
		case o.Kind == Transmit:
			defences++
		}
	}
	if notices != 1 || defences != 1 {
		t.Errorf("%d notices, %d defences in one interval", notices, defences)
	}
	if c := r.Conflicts(r.now); len(c) != 1 || c[0].MAC != stationMAC {
		t.Errorf("conflicts %+v", c)
	}
	if c := r.Conflicts(r.now.Add(conflictLife + time.Second)); len(c) != 0 {
		t.Errorf("conflicts are never forgotten: %+v", c)
	}
}

// TestProxyARP answers for what lies elsewhere, if it is switched on.
func TestProxyARP(t *testing.T) {
	for _, on := range []bool{false, true} {
		r := newLinkRig(t, on)
		r.Elsewhere(func(_ *ethernet.Entry, a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") })
		r.Drain()
		for target, want := range map[string]bool{"192.0.2.1": on, "192.0.2.2": false, "10.0.0.9": false} {
			r.arp(header.ARPRequest, "10.0.0.5", target)
			out := r.Drain()
			if got := len(out) == 1; got != want {
				t.Errorf("proxy %v: %d answers for %s", on, len(out), target)
			} else if got && (header.ARP(out[0].Frame[14:]).Sender() != netip.MustParseAddr(target) || out[0].Frame[0] != stationMAC[0]) {
				t.Errorf("answer %x", out[0].Frame)
			}
		}
	}
}

// TestHundredThousandNeighbours fills the table, scans past it, and lets all grow old.
func TestHundredThousandNeighbours(t *testing.T) {
	r := newLinkRig(t, false)
	addr := func(i int) string { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String() }
	const n = 100_000
	for i := 2; i < n+2; i++ {
		if i&0xff == 0 || i&0xff == 0xff {
			continue
		}
		r.arp(header.ARPRequest, addr(i), "10.0.0.1")
		if i%1000 == 0 {
			r.Drain()
		}
	}
	full := r.Len()
	if full < n*98/100 {
		t.Fatalf("%d neighbours", full)
	}
	start := time.Now()
	for i := range 20_000 { // a scan of dead addresses
		r.Resolve(r.now, KeyOf(r.in.ID, netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})), Packet{Data: make([]byte, 40)})
		if i%1000 == 0 {
			r.Drain()
		}
	}
	if e := r.Len(); e > full+512 {
		t.Errorf("a scan left %d entries more", e-full)
	}
	if r.queued > 1024 {
		t.Errorf("%d packets wait", r.queued)
	}
	if r.state(addr(300)) != "stale" {
		t.Errorf("a scan drove a neighbour out: %s", r.state(addr(300)))
	}
	t.Logf("scan of 20,000: %v", time.Since(start))
	for range 60 {
		r.now = r.now.Add(15 * time.Second)
		r.Tick(r.now)
		r.Drain()
	}
	if r.Len() != 0 {
		t.Errorf("%d unused neighbours are left after a quarter of an hour", r.Len())
	}
}
