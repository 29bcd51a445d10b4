package xdp

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"godwit/dataplane/express"
	"godwit/dataplane/graph"
	"godwit/dataplane/header"
	"godwit/dataplane/netdev/conform"
	"godwit/dataplane/netdev/netlab"
	"godwit/fib"
)

// keeper is the supervisor's side.
type keeper struct {
	fds map[string]int
	bad error
}

func (k *keeper) Keep(name string, fd int) error {
	if k.bad != nil {
		return k.bad
	}
	c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = k.Drop(name)
	k.fds[name] = c
	return err
}

func (k *keeper) Drop(name string) error {
	fd, ok := k.fds[name]
	if !ok {
		return k.bad
	}
	delete(k.fds, name)
	return unix.Close(fd)
}

// kept are copies, as the next process gets them.
func (k *keeper) kept(t *testing.T) map[string]int {
	m := map[string]int{}
	for name, fd := range k.fds {
		c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		must(t, err)
		m[name] = c
	}
	return m
}

// estateRig is a device and a keeper; each life is a process of the card.
type estateRig struct {
	t    *testing.T
	lab  *netlab.Lab
	keep *keeper
	log  bytes.Buffer
}

const heirPort = fib.PortID(0x10042)

func newEstateRig(t *testing.T) *estateRig {
	r := &estateRig{t: t, lab: conform.NewLab(t, prefix, 1), keep: &keeper{fds: map[string]int{}}}
	t.Cleanup(func() {
		for name := range r.keep.fds {
			must(t, r.keep.Drop(name))
		}
	})
	return r
}

type life struct {
	x *Express
	e *Estate
	d *Device
}

func (r *estateRig) begin() *life {
	r.t.Helper()
	x, err := NewExpress()
	must(r.t, err)
	x.State.Layout = express.Layout
	l := &life{x: x, e: NewEstate(r.keep, r.keep.kept(r.t), slog.New(slog.NewTextHandler(&r.log, nil)))}
	must(r.t, r.lab.Do("r", func() (err error) {
		l.d, err = Attach("p0", Options{ID: heirPort, Mode: Native, Express: x, Estate: l.e})
		return err
	}))
	return l
}

// die closes what the end of a process closes.
func (r *estateRig) die(l *life) {
	r.t.Helper()
	must(r.t, errors.Join(l.d.link.Close(), l.d.closeExpress(), l.e.Close(), l.x.Close()))
}

func (r *estateRig) says(text string) {
	r.t.Helper()
	if !strings.Contains(r.log.String(), text) {
		r.t.Errorf("log does not say %q:\n%s", text, r.log.String())
	}
	r.log.Reset()
}

func (l *life) program(t *testing.T) ebpf.ProgramID {
	t.Helper()
	i, err := l.d.link.Info()
	must(t, err)
	return i.Program
}

func (l *life) own(t *testing.T) ebpf.ProgramID {
	t.Helper()
	i, err := l.d.express.objs.Express.Info()
	must(t, err)
	id, _ := i.ID()
	return id
}

// TestEstate: a program goes on behind the end of its process, until the next one takes over; its
// neighbours are read.
func TestEstate(t *testing.T) {
	r := newEstateRig(t)
	a := r.begin()
	if a.d.Inherited() || a.program(t) != a.own(t) {
		t.Fatal("the first life inherits")
	}
	mac := header.MAC{2, 0, 0, 0, 0, 9}
	for adj, n := range []struct {
		rewrite uint32
		mac     header.MAC
	}{1: {5, mac}, 2: {0, mac}, 3: {1 << 30, mac}, 4: {6, header.MAC{1, 0, 0, 0, 0, 1}}} {
		if adj == 0 {
			continue
		}
		a.x.State.Adjacency[adj] = n.rewrite
		if n.rewrite < express.Adjacencies {
			copy(a.x.State.Rewrite[n.rewrite].MAC[:], n.mac[:])
		}
		must(t, a.x.SetNeighbor(express.Address{Scope: 7, Lo: uint64(adj)}, uint32(adj)))
	}
	must(t, a.x.SetNeighbor(express.Address{Scope: 7, Lo: 99}, 1<<31)) // out of range
	old := a.own(t)
	r.die(a)
	wire := conform.NewWire(t, r.lab, "a", "h0")
	b := r.begin()
	r.says("goes on")
	if !b.d.Inherited() || b.program(t) != old || b.e.Left() != 0 {
		t.Fatal("the second life does not inherit")
	}
	got := b.e.Neighbors()
	if len(got) != 1 || got[0] != (express.Neighbor{Interface: 7, Lo: 1, MAC: mac}) || b.e.Neighbors() != nil {
		t.Errorf("neighbours %+v", got)
	}
	// Sockets of the new life take frames from the old program.
	u := newUmem(t, 512, DefaultChunk)
	p := open(t, r.lab, b.d, u, 0)
	receive := func(what string) {
		t.Helper()
		wire.Send(t, conform.ARPRequest())
		for end := time.Now().Add(deadline); ; {
			var v graph.Vector
			must(t, p.Rx(&v))
			if v.N > 0 {
				for _, f := range v.P[:v.N] {
					u.Pool().Put(f)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatalf("no frame %s", what)
			}
		}
	}
	receive("through the old program")
	must(t, b.d.TakeOver())
	must(t, b.d.TakeOver())
	if b.d.Inherited() || b.program(t) != b.own(t) {
		t.Error("not taken over")
	}
	receive("through the new program")
	must(t, p.Close())
	must(t, errors.Join(b.d.Close(), b.e.Close(), b.x.Close()))
	if len(r.keep.fds) > 0 {
		t.Errorf("kept behind Close: %v", r.keep.fds)
	}
	c := r.begin()
	if c.d.Inherited() {
		t.Error("something is left behind Close")
	}
	must(t, errors.Join(c.d.Close(), c.e.Close(), c.x.Close()))
}

// TestDamagedEstate: what is not as it should be is replaced at once, or given up, and the log says why.
func TestDamagedEstate(t *testing.T) {
	for _, c := range []struct {
		name, log string
		damage    func(r *estateRig, l *life)
		inherits  bool
	}{
		{"layout", "state is damaged: layout 0xbad", func(_ *estateRig, l *life) { l.x.State.Layout = 0xbad }, false},
		{"version", "another version goes on", func(_ *estateRig, l *life) { l.x.State.Layout = express.Layout + 1 }, true},
		{"detached", "it was detached", func(r *estateRig, l *life) { must(r.t, l.d.link.Detach()) }, false},
		{"foreign program", "is foreign", func(r *estateRig, l *life) { must(r.t, l.d.link.Update(foreign(r.t))) }, false},
		{"foreign maps", "map of sockets is foreign", func(r *estateRig, l *life) { must(r.t, l.d.link.Update(namesake(r.t))) }, false},
		{"other device", "it is on device", func(r *estateRig, l *life) {
			must(r.t, r.lab.Do("r", func() error {
				nic, err := net.InterfaceByName("p1")
				if err != nil {
					return err
				}
				other, err := link.AttachXDP(link.XDPOptions{Program: foreign(r.t), Interface: nic.Index, Flags: link.XDPDriverMode})
				if err != nil {
					return err
				}
				defer other.Close()
				return r.keep.Keep(linkName(heirPort), other.(interface{ FD() int }).FD())
			}))
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newEstateRig(t)
			l := r.begin()
			c.damage(r, l)
			r.die(l)
			n := r.begin()
			r.says(c.log)
			if n.d.Inherited() != c.inherits {
				t.Errorf("inherits: %v", n.d.Inherited())
			}
			must(t, n.d.TakeOver())
			if n.program(t) != n.own(t) || len(r.keep.fds) != 1 {
				t.Errorf("program %d, own %d; kept %v", n.program(t), n.own(t), r.keep.fds)
			}
			must(t, errors.Join(n.d.Close(), n.e.Close(), n.x.Close()))
		})
	}
}

// foreign is a program that passes everything.
func foreign(t *testing.T) *ebpf.Program { return passing(t, "pass") }

// namesake has the name of ours, and none of its maps.
func namesake(t *testing.T) *ebpf.Program { return passing(t, "express") }

func passing(t *testing.T, name string) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, AttachType: ebpf.AttachXDP, License: "GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// TestRetain: programs of ports that are not wanted end, and so does one that another mode replaces.
func TestRetain(t *testing.T) {
	r := newEstateRig(t)
	a := r.begin()
	r.die(a)
	e := NewEstate(r.keep, r.keep.kept(t), slog.New(slog.NewTextHandler(&r.log, nil)))
	e.Retain([]fib.PortID{heirPort})
	if e.Left() != 1 || len(r.keep.fds) != 1 {
		t.Error("a port that is wanted was given up")
	}
	e.Retain(nil)
	r.says("not configured any more")
	if e.Left() != 0 || len(r.keep.fds) != 0 {
		t.Error("a port that is not wanted was kept")
	}
	b := r.begin()
	r.die(b)
	e = NewEstate(r.keep, r.keep.kept(t), slog.New(slog.DiscardHandler))
	d := attach(t, r.lab, "p0", Options{ID: heirPort, Mode: Generic, Estate: e})
	if d.Mode() != Generic || len(r.keep.fds) != 0 {
		t.Errorf("mode %v, kept %v", d.Mode(), r.keep.fds)
	}
	must(t, e.Close())
}

// TestKeeperFails: a port works without a keeper, too.
func TestKeeperFails(t *testing.T) {
	r := newEstateRig(t)
	r.keep.bad = fmt.Errorf("full")
	a := r.begin()
	r.says("not kept for the next process")
	must(t, errors.Join(a.d.Close(), a.e.Close(), a.x.Close()))
}

// TestMend: a detached program is attached again, of either kind; one that is there is left alone.
func TestMend(t *testing.T) {
	r := newEstateRig(t)
	l := r.begin()
	mend := func(d *Device, want bool) {
		t.Helper()
		must(t, r.lab.Do("r", func() error {
			mended, err := d.Mend()
			if mended != want {
				t.Errorf("mended: %v, want %v", mended, want)
			}
			return err
		}))
	}
	for range 2 {
		mend(l.d, false)
		must(t, l.d.link.Detach())
		mend(l.d, true)
	}
	must(t, errors.Join(l.d.Close(), l.e.Close(), l.x.Close()))
	d := attach(t, r.lab, "p0", Options{ID: heirPort, Mode: Generic})
	must(t, d.link.Detach())
	mend(d, true)
	mend(d, false)
	// Somebody else's program is there now: that is an alarm.
	must(t, d.link.Detach())
	must(t, r.lab.Do("r", func() error {
		other, err := link.AttachXDP(link.XDPOptions{Program: foreign(t), Interface: d.index, Flags: link.XDPGenericMode})
		if err != nil {
			return err
		}
		if mended, err := d.Mend(); mended || err == nil || !strings.Contains(err.Error(), "detached by somebody") {
			t.Errorf("mended %v: %v", mended, err)
		}
		return other.Close()
	}))
	mend(d, true)
}
