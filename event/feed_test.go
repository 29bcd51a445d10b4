package event

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFeedKeepsOrderAndSlowsTheSender(t *testing.T) {
	l := start(t)
	h := l.Handler("h", Normal)
	var received atomic.Int64
	hold, done := make(chan struct{}), make(chan error, 1)
	var got []int
	Feed(h, "numbers", func() (int, error) {
		if received.Load() == 1000 {
			return 0, io.EOF
		}
		return int(received.Add(1)), nil
	}, func() {}, func(v int) {
		if v == 1 {
			<-hold
		}
		got = append(got, v)
	}, func(err error) { done <- err })
	poll(t, "the window is full", func() bool { return received.Load() > feedWindow })
	if n := received.Load(); n > feedWindow+3 {
		t.Errorf("received %d values ahead", n)
	}
	close(hold)
	if err := recvWithin(t, done, "the end"); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
	if len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("%d values, sorted %v", len(got), slices.IsSorted(got))
	}
}

func TestFiles(t *testing.T) {
	l := start(t)
	dir := t.TempDir()
	events := make(chan FileEvent, 100)
	s, err := l.Files(l.Handler("files", Normal), func(ev FileEvent) { events <- ev }, dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.pem")
	await := func(op FileOp, name string) {
		t.Helper()
		for {
			if ev := recvWithin(t, events, op.String()+" "+name); ev.Op&op != 0 && ev.Name == name && ev.Dir == dir {
				return
			}
		}
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(Created, "a.pem")
	await(Changed, "a.pem")
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	await(Removed, "a.pem")
	await(Created, "a.pem2")
	st := l.Stats().Sources
	if len(st) != 1 || st[0].Kind != "files" || st[0].Name != dir || st[0].Handler != "files" || st[0].Events < 4 {
		t.Errorf("sources %+v", st)
	}
	s.Close()
	if _, err := l.Files(l.Handler("files", Normal), nil, filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if n := len(l.Stats().Sources); n != 0 {
		t.Errorf("%d sources left", n)
	}
}

func TestFilesTellsOfOverflow(t *testing.T) {
	l := start(t, WithBound(Normal, 1))
	dir := t.TempDir()
	h := l.Handler("files", Normal)
	hold := make(chan struct{})
	post(t, l.Handler("busy", High), func() { <-hold })
	overflowed := make(chan struct{}, 100)
	if _, err := l.Files(h, func(ev FileEvent) {
		if ev.Op == Overflowed {
			overflowed <- struct{}{}
		}
	}, dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	poll(t, "events were refused", func() bool { return l.Stats().Sources[0].Lost > 2 })
	close(hold)
	recvWithin(t, overflowed, "the overflow")
	if len(overflowed) != 0 {
		t.Error("overflow told more than once")
	}
}

func FuzzParseInotify(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 'a', 0, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, ev := range parseInotify(b, map[int32]string{1: "d"}) {
			if ev.Op == 0 || len(ev.Name) > len(b) {
				t.Errorf("event %+v", ev)
			}
		}
	})
}

// TestNetlink adds an address to the loopback interface of this namespace, which
// 127.0.0.0/8 covers already, and removes it.
func TestNetlink(t *testing.T) {
	l := start(t)
	types := make(chan uint16, 1000)
	s, err := l.Netlink(l.Handler("netlink", Critical), unix.NETLINK_ROUTE, []int{unix.RTNLGRP_IPV4_IFADDR},
		func(m NetlinkMessage) { types <- m.Type }, func() { t.Error("lost messages") })
	if err != nil {
		t.Fatal(err)
	}
	changeAddress(t, unix.RTM_NEWADDR)
	if typ := recvWithin(t, types, "the new address"); typ != unix.RTM_NEWADDR {
		t.Errorf("type %d", typ)
	}
	changeAddress(t, unix.RTM_DELADDR)
	if typ := recvWithin(t, types, "the removed address"); typ != unix.RTM_DELADDR {
		t.Errorf("type %d", typ)
	}
	s.Close()
	if _, err := l.Netlink(l.Handler("netlink", Critical), unix.NETLINK_ROUTE, []int{1 << 30}, nil, nil); err == nil {
		t.Error("joined a group that does not exist")
	}
}

// changeAddress adds or removes 127.71.87.84 on the loopback interface.
func changeAddress(t *testing.T, typ uint16) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	file, err := netlinkSocket(unix.NETLINK_ROUTE, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	if typ == unix.RTM_NEWADDR {
		flags |= unix.NLM_F_CREATE
	}
	msg := []byte{32, 0, 0, 0, byte(typ), 0, byte(flags), byte(flags >> 8), 1, 0, 0, 0, 0, 0, 0, 0, // nlmsghdr
		unix.AF_INET, 32, 0, 0, byte(lo.Index), 0, 0, 0, // ifaddrmsg
		8, 0, unix.IFA_LOCAL, 0, 127, 71, 87, 84}
	if _, err := file.Write(msg); err != nil {
		t.Fatal(err)
	}
	ack := make([]byte, 4096)
	n, err := file.Read(ack)
	if err != nil {
		t.Fatal(err)
	}
	if m := parseNetlink(ack[:n]); len(m) != 1 || m[0].Type != unix.NLMSG_ERROR || len(m[0].Data) < 4 || ack[16]|ack[17]|ack[18]|ack[19] != 0 {
		t.Fatalf("answer %+v", m)
	}
}

func FuzzParseNetlink(f *testing.F) {
	f.Add([]byte{16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		for _, m := range parseNetlink(b) {
			total += unix.NLMSG_HDRLEN + len(m.Data)
		}
		if total > len(b) {
			t.Errorf("%d bytes out of %d", total, len(b))
		}
	})
}
