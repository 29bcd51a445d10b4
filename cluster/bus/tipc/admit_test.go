package tipc

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
	"godwit/cluster/bus/bustest"
)

type secretNetwork struct{}

func (secretNetwork) Join(t *testing.T, _ string) bus.Bus {
	t.Helper()
	return joinWith(t, Admit(Secret([]byte("key")), nil))
}

func joinWith(t *testing.T, opts ...Option) *Member {
	t.Helper()
	m, err := Join(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestConformanceWithSecret: members that admit each other notice nothing.
func TestConformanceWithSecret(t *testing.T) {
	kernel(t)
	bustest.Run(t, func(*testing.T) bustest.Network { return secretNetwork{} })
}

func TestSecretsDiffer(t *testing.T) {
	if a := Secret([]byte("a")); bytes.Equal(a, Secret([]byte("b"))) || len(a) != 32 || bytes.Contains(a, []byte("a")) && a[0] == 'a' {
		t.Errorf("%x", a)
	}
	m := Member{secret: Secret([]byte("key"))}
	a, b := make([]byte, nonceLen), make([]byte, nonceLen)
	one, two := bus.Address{Ref: 1, Node: 2}, bus.Address{Ref: 3, Node: 4}
	macs := map[string]string{}
	for what, mac := range map[string][]byte{
		"as it is": m.mac("dialler", a, b, one, two), "side": m.mac("listener", a, b, one, two), "ends": m.mac("dialler", a, b, two, one),
		"nonce": m.mac("dialler", []byte("0123456789abcdef"), b, one, two), "other": (&Member{secret: Secret([]byte("x"))}).mac("dialler", a, b, one, two),
	} {
		if same, twice := macs[string(mac)]; twice {
			t.Errorf("%s is as good as %s", what, same)
		}
		macs[string(mac)] = what
	}
}

var guarded = bus.Service{Type: 700, Instance: 1}

// keeper serves the guarded service with a secret: it echoes.
func keeper(t *testing.T, key string) (refusals func() []error) {
	t.Helper()
	var mu sync.Mutex
	var list []error
	m := joinWith(t, Admit(Secret([]byte(key)), func(_ bus.Address, err error) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, err)
	}))
	l, err := m.Listen(bus.One(guarded.Type, guarded.Instance))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for {
					b, err := c.Recv()
					if err != nil || c.Send(b) != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { m.Close(); wg.Wait() })
	return func() []error {
		mu.Lock()
		defer mu.Unlock()
		return append([]error(nil), list...)
	}
}

func echo(t *testing.T, m *Member, text string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := m.Dial(ctx, guarded, bus.Data([]byte(text)))
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := c.Recv()
	if err == nil && string(b) != text {
		t.Errorf("%q came back as %q", text, b)
	}
	return err
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

// TestWhoDoesNotKnowTheSecret is let in by nobody and lets nobody in, and those
// that know it do not suffer.
func TestWhoDoesNotKnowTheSecret(t *testing.T) {
	kernel(t)
	refusals := keeper(t, "key")
	knows := joinWith(t, Admit(Secret([]byte("key")), nil))
	if err := echo(t, knows, "first"); err != nil {
		t.Fatal(err)
	}
	if err := echo(t, joinWith(t, Admit(Secret([]byte("other")), nil)), "x"); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("another secret: %v", err)
	}
	if err := echo(t, joinWith(t), "no secret"); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("no secret: %v", err)
	}
	// Garbage of all lengths, and one that says nothing.
	stranger := joinWith(t)
	for _, n := range []int{1, nonceLen - 1, nonceLen, nonceLen + 1, bus.MaxMessage} {
		c, err := stranger.Dial(t.Context(), guarded)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Send(bytes.Repeat([]byte{0xff}, n))
		if n != nonceLen {
			c.Close()
			continue
		}
		if b, err := c.Recv(); err != nil || len(b) != nonceLen+macLen {
			t.Errorf("answer of %d bytes, %v", len(b), err)
		}
		_ = c.Send(make([]byte, macLen))
		if _, err := c.Recv(); !errors.Is(err, bus.ErrPeerGone) {
			t.Errorf("a false proof: %v", err)
		}
		c.Close()
	}
	silent, err := stranger.Dial(t.Context(), guarded)
	if err != nil {
		t.Fatal(err)
	}
	if err := echo(t, knows, "beside a silent one"); err != nil {
		t.Error(err)
	}
	if _, err := silent.Recv(); !errors.Is(err, bus.ErrPeerGone) {
		t.Errorf("one that says nothing: %v", err)
	}
	// At least those that waited for an answer: who closes at once may not be seen.
	await(t, "four refusals", func() bool { return len(refusals()) >= 4 })
	// A crowd of silent ones does not keep the door shut.
	for range 3 * admitMost {
		c, err := stranger.Dial(t.Context(), guarded)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := echo(t, knows, "through the crowd"); err != nil {
		t.Error(err)
	}
	if err := echo(t, knows, "last"); err != nil {
		t.Error(err)
	}
}

// TestNobodyStandsInTheMiddle: one without the secret binds the service, and
// passes what it is sent on to one that has it.
func TestNobodyStandsInTheMiddle(t *testing.T) {
	kernel(t)
	refusals := keeper(t, "key")
	middle := joinWith(t)
	bait := bus.Service{Type: guarded.Type, Instance: 2}
	l, err := middle.Listen(bus.One(bait.Type, bait.Instance))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		on, err := middle.Dial(context.Background(), guarded)
		if err != nil {
			return
		}
		defer on.Close()
		for range 2 {
			if b, err := c.Recv(); err != nil || on.Send(b) != nil {
				return
			}
			if b, err := on.Recv(); err != nil || c.Send(b) != nil {
				return
			}
		}
	}()
	knows := joinWith(t, Admit(Secret([]byte("key")), nil))
	if _, err := knows.Dial(t.Context(), bait); !errors.Is(err, ErrNotAdmitted) {
		t.Errorf("dialled through the middle: %v", err)
	}
	await(t, "refusal", func() bool { return len(refusals()) == 1 })
}

// TestGarbageToABoundPort: datagrams to a listener's name, and connections that
// are cut off, do not disturb those that behave.
func TestGarbageToABoundPort(t *testing.T) {
	kernel(t)
	keeper(t, "key")
	stranger := joinWith(t)
	s, err := stranger.Socket()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= bus.MaxMessage; n *= 3 {
		if err := s.Send(guarded, make([]byte, n)); err != nil && !errors.Is(err, bus.ErrNoName) {
			t.Logf("%d bytes: %v", n, err)
		}
	}
	for range 2 * acceptQueue { // more than a listener keeps
		fd, err := unix.Socket(unix.AF_TIPC, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Connect(fd, toService(guarded)) // nor does it wait for an answer
		unix.Close(fd)
	}
	knows := joinWith(t, Admit(Secret([]byte("key")), nil))
	await(t, "service", func() bool { return echo(t, knows, "still there") == nil })
}

// TestAFloodAtLowImportance leaves room for what is more important: nobody
// reads, the low ones come back, the high ones all arrive.
func TestAFloodAtLowImportance(t *testing.T) {
	kernel(t)
	receiver, err := joinWith(t).Socket()
	if err != nil {
		t.Fatal(err)
	}
	if err := receiver.Bind(bus.One(701, 1)); err != nil {
		t.Fatal(err)
	}
	flood, err := joinWith(t).Socket(bus.With(bus.Low))
	if err != nil {
		t.Fatal(err)
	}
	var back atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			d, err := flood.Recv()
			if err != nil {
				return
			}
			if d.Code != bus.Overload {
				t.Errorf("came back with %v", d.Code)
			}
			back.Add(1)
		}
	})
	to := bus.Service{Type: 701, Instance: 1}
	const low, high = 1000, 20
	for i := range low {
		// The kernel keeps some 60 for the receiver, and as many that came back for the sender: it must read them.
		await(t, "message that comes back", func() bool { return i-int(back.Load()) < 100 })
		if err := flood.Send(to, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	}
	important, err := joinWith(t).Socket(bus.With(bus.High))
	if err != nil {
		t.Fatal(err)
	}
	for i := range high {
		if err := important.Send(to, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	lows, next := 0, byte(0)
	for int(next) < high {
		d, err := receiver.Recv()
		switch {
		case err != nil:
			t.Fatal(err)
		case len(d.Data) == 1 && d.Data[0] != next:
			t.Fatalf("important message %d instead of %d", d.Data[0], next)
		case len(d.Data) == 1:
			next++
		default:
			lows++
		}
	}
	await(t, "low ones come back", func() bool { return lows+int(back.Load()) >= low })
	flood.Close()
	wg.Wait()
	if n := int(back.Load()); lows+n != low || n == 0 {
		t.Errorf("of %d low ones %d arrived and %d came back", low, lows, n)
	}
}

func TestInspect(t *testing.T) {
	kernel(t)
	m := joinWith(t)
	s, err := m.Socket()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(bus.Range{Type: 702, Lower: 3, Upper: 9}, bus.Within(bus.Node)); err != nil {
		t.Fatal(err)
	}
	names, err := m.Names()
	if err != nil {
		t.Fatal(err)
	}
	want := bus.Binding{Range: bus.Range{Type: 702, Lower: 3, Upper: 9}, Addr: s.Addr(), Scope: bus.Node}
	found := false
	for _, n := range names {
		found = found || n == want
	}
	if !found {
		t.Errorf("no %+v in %+v", want, names)
	}
	if nodes, err := m.NodeStates(); err != nil || len(nodes) != 1 || nodes[0] != (bus.NodeState{Node: 1, Up: true}) {
		t.Errorf("nodes %+v, %v", nodes, err)
	}
	if err := Setup(Node{ID: 1, Network: 9}); !errors.Is(err, errIdentity) {
		t.Errorf("another network: %v", err)
	}
	if err := Setup(Node{ID: 1, Key: bytes.Repeat([]byte{7}, 36)}); err != nil {
		t.Errorf("a key: %v", err)
	}
	if err := Setup(Node{ID: 1, Key: []byte("short")}); err == nil {
		t.Error("a key of 5 bytes was taken")
	}
	if err := Remove(Node{ID: 1, Key: []byte{1}, Bearers: Ethernet("nothing0")}); err != nil {
		t.Errorf("remove: %v", err)
	}
}

// TestBearersOfTheKernel: there are those that were asked for last, and none
// after a failure that were not there before. The guest has devices d0 and d1.
func TestBearersOfTheKernel(t *testing.T) {
	kernel(t)
	check := func(what string, want ...string) {
		t.Helper()
		nl, err := openNetlink()
		if err != nil {
			t.Fatal(err)
		}
		defer nl.close()
		got, err := nl.bearers()
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", what, got, err, want)
		}
	}
	setup := func(devices ...string) error { return Setup(Node{ID: 1, Bearers: Ethernet(devices...)}) }
	if err := setup("d0"); err != nil {
		t.Fatal(err)
	}
	check("one", "eth:d0")
	if err := setup("d0", "d1"); err != nil {
		t.Error(err)
	}
	check("one more", "eth:d0", "eth:d1")
	if err := setup("d1"); err != nil {
		t.Error(err)
	}
	check("another configuration", "eth:d1")
	if err := setup("d0", "nothing0"); err == nil {
		t.Error("a device that is not there")
	}
	check("a failure")
	if err := setup("d0", "d1"); err != nil {
		t.Error(err)
	}
	if err := Remove(Node{Bearers: Ethernet("d0", "d1")}); err != nil {
		t.Error(err)
	}
	check("none is left")
}
