package tipc

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
	"godwit/cluster/bus/bustest"
)

// kernel prepares the kernel's TIPC. This machine's may have none: then the
// test runs in a guest (cmd/lab/vm), which sets the variable.
func kernel(t *testing.T) {
	t.Helper()
	if os.Getenv("GODWIT_TIPC_GUEST") == "" {
		t.Skip("the kernel's TIPC is tested in a guest, by cmd/lab/vm")
	}
	if err := Setup(Node{ID: 1}); err != nil {
		t.Fatal(err)
	}
}

type network struct{}

func (network) Join(t *testing.T, _ string) bus.Bus {
	t.Helper()
	m, err := Join()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestConformance(t *testing.T) {
	kernel(t)
	bustest.Run(t, func(*testing.T) bustest.Network { return network{} })
}

func TestSetupAgain(t *testing.T) {
	kernel(t)
	if err := Setup(Node{ID: 1}); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if err := Setup(Node{ID: 2}); !errors.Is(err, errIdentity) {
		t.Errorf("another identity: %v", err)
	}
	if err := Setup(Node{ID: 1, Bearers: Ethernet("nothing0")}); err == nil {
		t.Error("a bearer on a device that is not there")
	}
	if own, err := ownNode(); err != nil || own != 1 {
		t.Errorf("node %d, %v", own, err)
	}
	if links, err := Links(); err != nil || len(links) != 0 {
		t.Errorf("links %v, %v", links, err)
	}
}

func TestWithoutTheKernelsModule(t *testing.T) {
	if os.Getenv("GODWIT_TIPC_GUEST") != "" {
		t.Skip("the guest has it")
	}
	fd, err := unix.Socket(unix.AF_TIPC, unix.SOCK_RDM, 0)
	if err == nil {
		unix.Close(fd)
		t.Skip("this kernel has TIPC")
	}
	if _, err := Join(); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("joined: %v", err)
	}
	if err := Setup(Node{ID: 1}); !errors.Is(err, unix.EAFNOSUPPORT) {
		t.Errorf("set up: %v", err)
	}
}

func event(kind, lower, upper uint32) []byte {
	b := appendSubscr(make([]byte, 20), bus.Range{Type: 5, Lower: 1, Upper: 9}, bus.Options{Timeout: time.Second})
	for i, v := range []uint32{kind, lower, upper, 77, 2} {
		copy(b[4*i:], []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	return b
}

func TestEvents(t *testing.T) {
	e, expired, err := parseEvent(event(unix.TIPC_PUBLISHED, 3, 4))
	want := bus.Event{Up: true, Range: bus.Range{Type: 5, Lower: 3, Upper: 4}, Addr: bus.Address{Ref: 77, Node: 2}}
	if err != nil || expired || e != want {
		t.Errorf("%+v, %v, %v", e, expired, err)
	}
	if _, expired, err := parseEvent(event(unix.TIPC_SUBSCR_TIMEOUT, 3, 4)); err != nil || !expired {
		t.Errorf("timeout: %v, %v", expired, err)
	}
	for _, b := range [][]byte{nil, event(9, 1, 2), event(unix.TIPC_WITHDRAWN, 2, 1), make([]byte, eventLen-1)} {
		if _, _, err := parseEvent(b); !errors.Is(err, errEvent) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	b := appendAttrs(nil, text(1, "eth:eth0"), nested(2, u32(propTolerance, 1500)), attr{3, []byte{1}})
	m, err := parseAttrs(b)
	if err != nil || str(m[1]) != "eth:eth0" || !bytes.Equal(m[3], []byte{1}) {
		t.Fatalf("%v, %v", m, err)
	}
	if in, err := inner(m, 2); err != nil || number(in[propTolerance]) != 1500 {
		t.Errorf("%v, %v", in, err)
	}
	for _, b := range [][]byte{{1}, {3, 0, 1, 0}, {9, 0, 1, 0}} {
		if _, err := parseAttrs(b); !errors.Is(err, errNetlink) {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(event(unix.TIPC_PUBLISHED, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, _, err := parseEvent(b); err == nil && e.Range.Lower > e.Range.Upper {
			t.Errorf("range %v", e.Range)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add(append(make([]byte, unix.NLMSG_HDRLEN), appendAttrs([]byte{1, 1, 0, 0}, text(1, "x"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, _, err := parseAnswers(b, 0)
		if err == nil && len(all) > len(b) {
			t.Errorf("%d answers in %d bytes", len(all), len(b))
		}
	})
}

func FuzzAncillary(f *testing.F) {
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAncillary(b); err == nil && len(a.data) > len(b) {
			t.Errorf("%d bytes came back in %d", len(a.data), len(b))
		}
	})
}
