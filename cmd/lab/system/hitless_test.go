package system

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stream is numbered datagrams at a steady rate, from a node to another.
type stream struct {
	t                *testing.T
	out, in          *net.UDPConn
	stop             chan struct{}
	sender, receiver sync.WaitGroup
	mu               sync.Mutex
	sent             uint32
	received         map[uint32]bool
}

const streamEvery = time.Millisecond // a veth holds 256 frames while nobody runs

// within runs f on a thread in a namespace; the thread ends with it.
func within(t *testing.T, netns string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ns, err := os.Open("/run/netns/" + netns)
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func newStream(t *testing.T, r *rig, from, to, addr string) *stream {
	t.Helper()
	s := &stream{t: t, stop: make(chan struct{}), received: map[uint32]bool{}}
	at := &net.UDPAddr{IP: net.ParseIP(addr), Port: 7000}
	within(t, r.node(to).NetNS, func() (err error) { s.in, err = net.ListenUDP("udp", at); return err })
	within(t, r.node(from).NetNS, func() (err error) { s.out, err = net.DialUDP("udp", nil, at); return err })
	if err := s.in.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	s.sender.Go(s.send)
	s.receiver.Go(s.receive)
	return s
}

func (s *stream) send() {
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		s.sent++
		n := s.sent
		s.mu.Unlock()
		if _, err := s.out.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
			s.t.Error(err)
			return
		}
	}
}

func (s *stream) receive() {
	b := make([]byte, 64)
	for {
		n, err := s.in.Read(b)
		if err != nil {
			return
		}
		if n == 4 {
			s.mu.Lock()
			s.received[binary.BigEndian.Uint32(b)] = true
			s.mu.Unlock()
		}
	}
}

// more waits for so many datagrams more.
func (s *stream) more(n int) {
	s.t.Helper()
	s.mu.Lock()
	from := len(s.received)
	s.mu.Unlock()
	eventually(s.t, 30*time.Second, func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.received) < from+n {
			return fmt.Errorf("%d datagrams, waiting for %d", len(s.received)-from, n)
		}
		return nil
	})
}

// lost tells how many have not arrived, a moment after the last was sent.
func (s *stream) lost() (sent, lost int) {
	deadline := time.Now().Add(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.sent
	for {
		n := 0
		for i := uint32(1); i <= last; i++ {
			if !s.received[i] {
				n++
			}
		}
		if n == 0 || time.Now().After(deadline) {
			return int(last), n
		}
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		s.mu.Lock()
	}
}

func (s *stream) end() {
	close(s.stop)
	s.sender.Wait()
	s.in.Close()
	s.out.Close()
	s.receiver.Wait()
}

// expressOn waits until both ports of the small router are on the express path, by their own programs.
func expressOn(t *testing.T, r *rig) {
	t.Helper()
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		out, err := r.r1.CLI(ctx, "show", "interfaces", "--json")
		if err != nil {
			return err
		}
		out = strings.ReplaceAll(out, " ", "")
		if strings.Count(out, `"express":"on"`) < 2 || strings.Contains(out, "express_reason") {
			return fmt.Errorf("not on the express path:\n%s", out)
		}
		return nil
	})
}

// restarted waits until a module has another process, and returns it.
func restarted(t *testing.T, r *rig, module string, old int) (now int) {
	t.Helper()
	eventually(t, 30*time.Second, func(ctx context.Context) (err error) {
		if now, err = r.pid(ctx, module); err == nil && now == old {
			err = fmt.Errorf("%s was not restarted", module)
		}
		return err
	})
	return now
}

// TestNoPacketIsLostOnTheExpressPath: line card, routing engine and speaker are killed and come back, or are
// upgraded, under a stream.
func TestNoPacketIsLostOnTheExpressPath(t *testing.T) {
	r, err := newExpressRig(t.Context(), "../../../configs/lab/small.yaml", "gwh", "", "on")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(tail(r.r1.Proc("godwitd").Output(), 80))
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := r.node("left").Exec(ctx, "ping", "-n", "-c", "1", "-W", "1", "198.51.100.2")
		return err
	})
	expressOn(t, r)
	s := newStream(t, r, "left", "right", "198.51.100.2")
	defer s.end()
	s.more(100)
	for _, end := range []string{"linecard-1 killed", "router killed", "bgp-default killed", "linecard-1 upgraded", "router upgraded"} {
		module, how, _ := strings.Cut(end, " ")
		old, err := r.pid(t.Context(), module)
		if err != nil {
			t.Fatal(err)
		}
		if how == "upgraded" {
			r.cli(t, "request upgrade "+module)
		} else if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s.more(100)
		restarted(t, r, module, old)
		expressOn(t, r)
		s.more(100)
		sent, lost := s.lost()
		t.Logf("%s: %d datagrams, %d lost", end, sent, lost)
		if lost > 0 {
			t.Errorf("%s: %d of %d datagrams lost", end, lost, sent)
			break
		}
		if out, err := r.node("left").Exec(t.Context(), "ping", "-n", "-c", "2", "-W", "2", "192.0.2.1"); err != nil {
			t.Errorf("%s: the router does not answer: %v\n%s", end, err, out)
		}
	}
}
