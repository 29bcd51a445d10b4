package linecard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"godwit/cluster/bus"
	"godwit/cluster/bus/local"
	"godwit/cluster/fdstore"
	"godwit/cluster/session"
	"godwit/cluster/wire"
	"godwit/dataplane/netdev/netlab"
	"godwit/event"
	"godwit/fib"
)

// TestMain is a line card, too: the rig starts the test binary again, in the
// router's namespace.
func TestMain(m *testing.M) {
	if dir := os.Getenv("GODWIT_TEST_CARD_DIR"); dir != "" {
		if err := cardMain(dir, os.Getenv("GODWIT_TEST_CARD")); err != nil {
			fmt.Fprintln(os.Stderr, "card:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func cardMain(dir, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	b, err := local.Join(dir, "linecard-"+number)
	if err != nil {
		return err
	}
	loop := event.New("linecard-" + number)
	store, err := fdstore.Open()
	if err != nil {
		return err
	}
	a, err := New(Options{
		Store: store, Card: fib.CardID(n), FabricDir: filepath.Join(dir, "fabric"), Bus: b, Loop: loop,
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Info: wire.ModuleInfo{Name: "linecard-" + number, Role: "linecard", PID: os.Getpid(), Started: time.Now()},
	})
	if err != nil {
		return err
	}
	err = loop.Run(ctx)
	err = errors.Join(err, a.Close(), b.Close(), store.Close())
	return errors.Join(err, goleak.Find(goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop")))
}

// expressTests runs the tests with the express path; GODWIT_TEST_EXPRESS=off without.
var expressTests = os.Getenv("GODWIT_TEST_EXPRESS") != "off"

const (
	red  = fib.VRF(7)
	blue = fib.VRF(8)
)

// rig is a router of line-card processes in namespaces, with the test as its
// routing engine.
//
//	h1 ── p1 [card 1] ══ fabric ══ [card 2] p2 ── h2
type rig struct {
	t    testing.TB
	lab  *netlab.Lab
	dir  string
	loop *event.Loop
	h    *event.Handler

	mu       sync.Mutex
	cards    map[fib.CardID]*process
	stores   map[fib.CardID]*fdstore.Store // what the supervisor keeps; the loop's
	sessions map[fib.CardID]*session.Session
	acks     map[fib.CardID]wire.FIBAckBody
	ports    map[fib.PortID]wire.PortStatus
	frames   [][]byte // CaptureFrame bodies
	fetches  []wire.FIBFetchBody
	// bfdEvents are the states told, in order.
	bfdEvents []string
	epoch     uint32
	seq       map[fib.CardID]uint64
}

type process struct {
	cmd  *exec.Cmd
	log  *syncBuffer
	line *fdstore.Line
	feed *event.Source
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

var rigs int

// newRig makes the namespaces rtr and red (a host stack), and those of hosts.
func newRig(t testing.TB, hosts ...string) *rig {
	t.Helper()
	rigs++
	lab, err := netlab.New(fmt.Sprintf("gwt-linecard%d", rigs), append([]string{"rtr", "red"}, hosts...)...)
	must(t, err)
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{
		t: t, lab: lab, dir: t.TempDir(), cards: make(map[fib.CardID]*process), stores: make(map[fib.CardID]*fdstore.Store), sessions: make(map[fib.CardID]*session.Session),
		acks: make(map[fib.CardID]wire.FIBAckBody), ports: make(map[fib.PortID]wire.PortStatus), seq: make(map[fib.CardID]uint64), epoch: 1,
	}
	r.startEngine()
	t.Cleanup(func() {
		for n := range r.cards {
			r.stop(n)
		}
		for n, s := range r.stores {
			if left := s.Names(); len(left) > 0 && !t.Failed() {
				t.Errorf("card %d has stopped and left %v", n, left)
			}
			must(t, s.Close())
		}
	})
	return r
}

// startEngine starts bus and routing engine.
func (r *rig) startEngine() {
	server, err := local.NewServer(r.dir, slog.New(slog.DiscardHandler))
	must(r.t, err)
	b, err := local.Join(r.dir, "router")
	must(r.t, err)
	r.loop = event.New("router")
	r.h = r.loop.Handler("test", event.Normal)
	done := make(chan error, 1)
	go func() { done <- r.loop.Run(context.Background()) }()
	f, err := session.Follow(r.h, b, bus.All(bus.TypeLinecard), func(n uint32, s *session.Session) session.Handler {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.sessions[fib.CardID(n)] = s
		return &engineSession{r, fib.CardID(n)}
	})
	must(r.t, err)
	r.t.Cleanup(func() {
		f.Close()
		r.loop.Stop()
		<-done
		b.Close()
		server.Close()
	})
}

type engineSession struct {
	r    *rig
	card fib.CardID
}

func (e *engineSession) Receive(_ *session.Session, m session.Message) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	var err error
	switch m.Kind {
	case wire.FIBAck:
		var a wire.FIBAckBody
		err = wire.Decode(m.Body, &a)
		e.r.acks[e.card] = a
	case wire.PortEvent:
		var p wire.PortStatus
		err = wire.Decode(m.Body, &p)
		e.r.ports[p.ID] = p
	case wire.BFDEvent:
		var s wire.BFDStatus
		err = wire.Decode(m.Body, &s)
		e.r.bfdEvents = append(e.r.bfdEvents, s.State)
	case wire.FIBFetch:
		var f wire.FIBFetchBody
		err = wire.Decode(m.Body, &f)
		e.r.fetches = append(e.r.fetches, f)
	case wire.CaptureFrame:
		e.r.frames = append(e.r.frames, m.Body)
	default:
		err = fmt.Errorf("unexpected %v", m.Kind)
	}
	if err != nil {
		e.r.t.Error(err)
	}
}

func (e *engineSession) Closed(s *session.Session, _ error) {
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if e.r.sessions[e.card] == s {
		delete(e.r.sessions, e.card)
	}
}

// session waits for the session to a card.
func (r *rig) session(n fib.CardID) *session.Session {
	r.t.Helper()
	var s *session.Session
	eventually(r.t, fmt.Sprintf("session to card %d", n), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		s = r.sessions[n]
		return s != nil
	})
	return s
}

// start starts a line card in the router's namespace.
func (r *rig) start(n fib.CardID) {
	r.t.Helper()
	exe, err := os.Executable()
	must(r.t, err)
	p := &process{cmd: exec.Command(exe), log: &syncBuffer{}}
	p.cmd.Env = append(os.Environ(), "GODWIT_TEST_CARD_DIR="+r.dir, fmt.Sprintf("GODWIT_TEST_CARD=%d", n), fdstore.Variable+"=3")
	theirs := r.keep(n, p)
	defer theirs.Close()
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	must(r.t, r.lab.Do("rtr", p.cmd.Start))
	r.cards[n] = p
	r.session(n)
}

// keep serves what the card gives to keep.
func (r *rig) keep(n fib.CardID, p *process) (theirs *os.File) {
	r.t.Helper()
	if r.stores[n] == nil {
		r.stores[n] = fdstore.NewStore()
	}
	var err error
	p.line, theirs, err = r.stores[n].NewLine()
	must(r.t, err)
	p.feed, err = r.loop.Readable(r.h, p.line.File(), func() {
		if err := p.line.Serve(); errors.Is(err, io.EOF) {
			p.feed.Close()
		} else if err != nil {
			r.t.Error(err)
		}
	})
	must(r.t, err)
	return theirs
}

// buried ends the service of a process that has ended.
func (r *rig) buried(p *process) {
	r.t.Helper()
	done := make(chan error, 1)
	must(r.t, r.h.Post(func() {
		p.feed.Close()
		done <- p.line.Close()
	}))
	must(r.t, <-done)
}

// stop ends a line card in order; all that leaks is an error.
func (r *rig) stop(n fib.CardID) {
	p := r.cards[n]
	delete(r.cards, n)
	p.cmd.Process.Signal(syscall.SIGTERM)
	dead := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Signal(syscall.SIGQUIT) })
	err := p.cmd.Wait()
	dead.Stop()
	r.buried(p)
	if err != nil {
		r.t.Errorf("card %d: %v", n, err)
	}
	if err != nil || r.t.Failed() {
		r.t.Logf("card %d says:\n%s", n, p.log)
	}
}

// kill ends a line card with SIGKILL.
func (r *rig) kill(n fib.CardID) {
	p := r.cards[n]
	delete(r.cards, n)
	p.cmd.Process.Kill()
	p.cmd.Wait()
	r.buried(p)
	eventually(r.t, "end of the session", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.sessions[n] == nil
	})
}

// ask sends a request and decodes the reply.
func ask[T any](r *rig, n fib.CardID, k wire.Kind, v any) (T, error) {
	r.t.Helper()
	type answer struct {
		v   T
		err error
	}
	got := make(chan answer, 1)
	r.session(n).Request(k, v, 20*time.Second, func(m session.Message, err error) {
		var a answer
		if a.err = err; err == nil {
			a.err = wire.Decode(m.Body, &a.v)
		}
		got <- a
	})
	a := <-got
	return a.v, a.err
}

func get[T any](r *rig, n fib.CardID, k wire.Kind, v any) T {
	r.t.Helper()
	a, err := ask[T](r, n, k, v)
	must(r.t, err)
	return a
}

// configure sends a configuration and wants no problems.
func (r *rig) configure(cfg wire.CardConfig) {
	r.t.Helper()
	if res := get[wire.CardResult](r, cfg.Card, wire.SetCard, cfg); len(res.Problems) > 0 {
		r.t.Fatalf("card %d: %s", cfg.Card, strings.Join(res.Problems, "; "))
	}
}

// program sends changes to a card and waits for the acknowledgement.
func (r *rig) program(n fib.CardID, changes ...fib.Change) {
	r.t.Helper()
	r.seq[n]++
	b := fib.Batch{Epoch: r.epoch, Seq: r.seq[n], Changes: changes}
	must(r.t, r.session(n).Send(wire.FIBBatch, wire.AppendFIBBatch(nil, b)))
	eventually(r.t, "acknowledgement", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if e := r.acks[n].Error; e != "" {
			r.t.Fatalf("card %d refuses: %s", n, e)
		}
		return r.acks[n].Epoch == b.Epoch && r.acks[n].Seq == b.Seq
	})
}

func (r *rig) port(id fib.PortID) wire.PortStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[id]
}

// drop reads one drop counter of a card.
func (r *rig) drop(n fib.CardID, node, reason string) uint64 {
	for _, d := range get[wire.DropList](r, n, wire.GetDrops, struct{}{}).Drops {
		if d.Node == node && d.Reason == reason {
			return d.Count
		}
	}
	r.t.Errorf("card %d has no drop %s/%s", n, node, reason)
	return 0
}

// host gives a namespace its end of a cable to the router's device.
func (r *rig) host(ns, device, addr, gateway string) {
	r.t.Helper()
	must(r.t, r.lab.Veth("rtr", device, ns, "eth0", 1))
	if expressTests { // a veth takes redirected frames while its peer has NAPI
		must(r.t, r.lab.Exec(ns, "ethtool", "-K", "eth0", "gro", "on"))
	}
	must(r.t, r.lab.IP(ns, "addr", "add", addr, "dev", "eth0"))
	must(r.t, r.lab.IP(ns, "route", "add", "default", "via", gateway))
}

// stack prepares the host stack of red: TAPs and the TUN.
func (r *rig) stack(ns string, taps map[string]string) {
	r.t.Helper()
	must(r.t, r.lab.Sysctl(ns, "net/ipv4/conf/all/rp_filter", "0"))
	must(r.t, r.lab.IP(ns, "tuntap", "add", "dev", "vrf0", "mode", "tun", "multi_queue"))
	must(r.t, r.lab.IP(ns, "link", "set", "vrf0", "up"))
	must(r.t, r.lab.IP(ns, "route", "add", "default", "dev", "vrf0", "metric", "4096"))
	for name, addr := range taps {
		must(r.t, r.lab.IP(ns, "tuntap", "add", "dev", name, "mode", "tap"))
		for key, v := range map[string]string{"rp_filter": "0", "arp_ignore": "1", "arp_announce": "2"} {
			must(r.t, r.lab.Sysctl(ns, "net/ipv4/conf/"+name+"/"+key, v))
		}
		must(r.t, r.lab.IP(ns, "addr", "add", addr, "dev", name))
		must(r.t, r.lab.IP(ns, "link", "set", name, "up"))
	}
}

// setMAC gives a TAP the MAC address of its port, as the routing engine does.
func (r *rig) setMAC(ns, tap string, id fib.PortID) {
	r.t.Helper()
	mac := ""
	eventually(r.t, "MAC of the port", func() bool { mac = r.port(id).MAC; return mac != "" })
	must(r.t, r.lab.IP(ns, "link", "set", tap, "address", mac))
}

func (r *rig) netns(name string) string { return "/run/netns/" + r.lab.Netns(name) }

// output runs a command in a namespace.
func (r *rig) output(ns string, args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", r.lab.Netns(ns)}, args...)...).CombinedOutput()
	return string(out), err
}

// ping pings until count answers came in a row.
func (r *rig) ping(ns, to string, args ...string) {
	r.t.Helper()
	var out string
	var err error
	for range 5 {
		out, err = r.output(ns, append([]string{"ping", "-c", "3", "-i", "0.05", "-W", "1", to}, args...)...)
		if err == nil && strings.Contains(out, "3 received") {
			return
		}
	}
	r.t.Fatalf("ping %s from %s: %v\n%s", to, ns, err, out)
}

// Numbers of things.
func portID(card, n int) fib.PortID       { return fib.MakePortID(fib.CardID(card), uint16(n)) }
func ifaceID(card, n int) fib.InterfaceID { return fib.MakeInterfaceID(fib.CardID(card), uint16(n)) }
func prefixes(ss ...string) (l []netip.Prefix) {
	for _, s := range ss {
		l = append(l, netip.MustParsePrefix(s))
	}
	return l
}

// connected are the changes for a connected prefix and its own address, with
// two group IDs from id.
func connected(vrf fib.VRF, i fib.InterfaceID, addr string, id fib.GroupID) []fib.Change {
	p := netip.MustParsePrefix(addr)
	own := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
	return []fib.Change{
		{Op: fib.SetGroup, Group: fib.Group{ID: id, Kind: fib.Forward, NextHops: []fib.NextHop{{Interface: i}}}},
		{Op: fib.SetGroup, Group: fib.Group{ID: id + 1, Kind: fib.Local}},
		{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: p.Masked(), Group: id}},
		{Op: fib.SetRoute, Route: fib.Route{VRF: vrf, Prefix: own, Group: id + 1}},
	}
}

var _ io.Writer = (*syncBuffer)(nil)
