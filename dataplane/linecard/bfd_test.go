package linecard

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/wire"
	"godwit/dataplane/bfd"
	"godwit/dataplane/header"
	"godwit/fib"
)

// bfdHost is a neighbour that speaks BFD through a socket of its namespace.
type bfdHost struct {
	conn   *net.UDPConn
	core   *bfd.Core
	local  netip.Addr
	peer   netip.Addr
	silent atomic.Bool
	state  atomic.Uint32
	done   chan struct{}
}

func (r *rig) bfdHost(ns, local, peer string) *bfdHost {
	r.t.Helper()
	h := &bfdHost{core: bfd.New(rand.New(rand.NewPCG(3, 4))), local: netip.MustParseAddr(local), peer: netip.MustParseAddr(peer), done: make(chan struct{})}
	must(r.t, r.lab.Do(ns, func() (err error) {
		h.conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: h.local.AsSlice(), Port: bfd.PortControl})
		return err
	}))
	raw, err := h.conn.SyscallConn()
	must(r.t, err)
	must(r.t, raw.Control(func(fd uintptr) { must(r.t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 255)) }))
	h.core.Set(0, []bfd.Config{{VRF: 1, Interface: 1, Peer: h.peer, Local: h.local, MinTx: 50 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 20}})
	go h.run()
	r.t.Cleanup(func() { h.conn.Close(); <-h.done })
	return h
}

func (h *bfdHost) run() {
	defer close(h.done)
	start := time.Now()
	buf := make([]byte, 256)
	for {
		now := int64(time.Since(start))
		h.core.Advance(now)
		for _, e := range h.core.Drain() {
			if e.Kind != bfd.Send {
				h.state.Store(uint32(e.Status.State))
			} else if !h.silent.Load() {
				_, _ = h.conn.WriteToUDPAddrPort(e.Data[header.IPv4Len+8:], netip.AddrPortFrom(h.peer, bfd.PortControl))
			}
		}
		_ = h.conn.SetReadDeadline(time.Now().Add(time.Duration(max(h.core.Next()-int64(time.Since(start)), 1e5))))
		n, _, err := h.conn.ReadFromUDPAddrPort(buf)
		if ne, ok := err.(net.Error); err != nil && !(ok && ne.Timeout()) {
			return
		}
		if err == nil {
			p := make([]byte, header.IPv4Len+8, header.IPv4Len+8+n)
			header.PutIPv4(p, cap(p), 0, 0, 0, 255, header.ProtoUDP, h.peer, h.local)
			p[22], p[23], p[25] = bfd.PortControl>>8, bfd.PortControl&0xff, byte(8+n)
			h.core.Receive(int64(time.Since(start)), 1, 1, append(p, buf[:n]...))
		}
	}
}

func (r *rig) bfd(peer string) (s wire.BFDStatus) {
	r.t.Helper()
	for _, s := range get[wire.BFDList](r, 1, wire.GetBFD, struct{}{}).Sessions {
		if s.Peer.String() == peer {
			return s
		}
	}
	return s
}

// TestBFDRepairs: a group leaves a neighbour whose session fails, though its link
// is up and it answers ARP; nobody but the card has to do anything.
func TestBFDRepairs(t *testing.T) {
	r, cfg := twoPorts(t)
	h1 := r.bfdHost("h1", "10.1.0.2", "10.1.0.1")
	session := wire.BFDSession{VRF: red, Interface: ifaceID(1, 1), Peer: netip.MustParseAddr("10.1.0.2"),
		MinTx: 50 * time.Millisecond, MinRx: 50 * time.Millisecond, Multiplier: 20}
	cfg.BFD = []wire.BFDSession{session}
	r.configure(cfg)
	eventually(t, "session up", func() bool { return r.bfd("10.1.0.2").State == "up" && h1.state.Load() == uint32(bfd.Up) })
	r.program(1, fib.Change{Op: fib.SetGroup, Group: fib.Group{ID: 9, Kind: fib.Forward, NextHops: []fib.NextHop{
		{Interface: ifaceID(1, 1), Gateway: netip.MustParseAddr("10.1.0.2"), Weight: 1}, {Interface: ifaceID(1, 2), Gateway: netip.MustParseAddr("10.2.0.2"), Weight: 1}}}},
		fib.Change{Op: fib.SetRoute, Route: fib.Route{VRF: red, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Group: 9}})
	dead := func() (n int) {
		for _, m := range get[wire.TraceResult](r, 1, wire.TraceFIB, wire.TraceQuery{VRF: red, To: netip.MustParseAddr("192.0.2.1")}).Members {
			if m.Dead {
				n++
			}
		}
		return n
	}
	eventually(t, "both members alive", func() bool { return dead() == 0 })
	h1.silent.Store(true)
	eventually(t, "member dead", func() bool { return dead() == 1 && r.bfd("10.1.0.2").Failed })
	r.ping("h1", "10.1.0.1") // its ARP and its link work
	if dead() != 1 {
		t.Error("ARP brought a neighbor back whose session is down")
	}
	h1.silent.Store(false)
	eventually(t, "member back", func() bool { return dead() == 0 && r.bfd("10.1.0.2").State == "up" })
	eventually(t, "events", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return strings.Contains(strings.Join(r.bfdEvents, " "), "up down init up") || strings.Contains(strings.Join(r.bfdEvents, " "), "up down up")
	})
	must(t, r.lab.IP("h1", "link", "set", "eth0", "down"))
	eventually(t, "the link's word", func() bool { s := r.bfd("10.1.0.2"); return s.State == "down" && s.Diag == "path down" })
	cfg.BFD = nil
	r.configure(cfg)
	if l := get[wire.BFDList](r, 1, wire.GetBFD, struct{}{}); len(l.Sessions) != 0 || len(l.Drops) == 0 {
		t.Errorf("left: %+v", l)
	}
}

func TestBFDRefusesWhatCannotWork(t *testing.T) {
	r, cfg := twoPorts(t)
	good := wire.BFDSession{VRF: red, Interface: ifaceID(1, 1), Peer: netip.MustParseAddr("10.1.0.2"), MinTx: time.Second, MinRx: time.Second, Multiplier: 3}
	for name, spoil := range map[string]func(*wire.BFDSession){
		"no address": func(s *wire.BFDSession) { s.Peer = netip.Addr{} }, "another card": func(s *wire.BFDSession) { s.Interface = ifaceID(2, 1) },
		"several hops": func(s *wire.BFDSession) { s.Interface = 0 }, "intervals": func(s *wire.BFDSession) { s.MinTx = time.Millisecond },
		"multiplier": func(s *wire.BFDSession) { s.Multiplier = 0 }, "no type": func(s *wire.BFDSession) { s.Auth = "rot13" },
		"a key": func(s *wire.BFDSession) { s.Auth, s.Key = "md5", strings.Repeat("x", 17) },
	} {
		bad := good
		spoil(&bad)
		next := cfg
		next.BFD = []wire.BFDSession{good, bad}
		if _, err := ask[wire.CardResult](r, 1, wire.SetCard, next); err == nil || !strings.Contains(err.Error(), "BFD session with") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l := get[wire.BFDList](r, 1, wire.GetBFD, struct{}{}); len(l.Sessions) != 0 {
		t.Errorf("a refused configuration left %+v", l.Sessions)
	}
}
