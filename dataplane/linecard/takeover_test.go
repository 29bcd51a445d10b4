package linecard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/cluster/fdstore"
	"godwit/cluster/wire"
	"godwit/fib"
)

// stream is numbered datagrams from h1 to h2 at a steady rate.
type stream struct {
	t        *testing.T
	out, in  *net.UDPConn
	stop     chan struct{}
	sender   sync.WaitGroup
	receiver sync.WaitGroup
	mu       sync.Mutex
	sent     uint32
	received map[uint32]bool
}

const streamEvery = time.Millisecond // a veth holds 256 frames while nobody runs

func (r *rig) stream(t *testing.T) *stream {
	t.Helper()
	s := &stream{t: t, stop: make(chan struct{}), received: map[uint32]bool{}}
	must(t, r.lab.Do("h2", func() (err error) {
		s.in, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 2, 0, 2), Port: 7000})
		return err
	}))
	must(t, s.in.SetReadBuffer(4<<20))
	must(t, r.lab.Do("h1", func() (err error) {
		s.out, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 2, 0, 2), Port: 7000})
		return err
	}))
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
	eventually(s.t, "datagrams", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.received) >= from+n
	})
}

// end tells how many were lost.
func (s *stream) end() (sent, lost int) {
	s.t.Helper()
	close(s.stop)
	s.sender.Wait()
	all := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.received) == int(s.sent)
	}
	for deadline := time.Now().Add(500 * time.Millisecond); !all() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	must(s.t, errors.Join(s.in.Close(), s.out.Close()))
	s.receiver.Wait()
	return int(s.sent), int(s.sent) - len(s.received)
}

// replay programs the card as a routing engine does that has found it again.
func (r *rig) replay(cfg wire.CardConfig) {
	r.t.Helper()
	r.epoch++
	r.seq[1] = 0
	hold := cfg
	hold.Hold, hold.Ports = true, nil
	r.configure(hold)
	r.program(1, append(connected(red, ifaceID(1, 1), "10.1.0.1/24", 11), connected(red, ifaceID(1, 2), "10.2.0.1/24", 13)...)...)
	r.configure(cfg)
	r.seq[1]++
	b := fib.Batch{Epoch: r.epoch, Seq: r.seq[1], Sweep: true}
	must(r.t, r.session(1).Send(wire.FIBBatch, wire.AppendFIBBatch(nil, b)))
}

func (r *rig) says(text string) {
	r.t.Helper()
	eventually(r.t, text, func() bool { return strings.Contains(r.cards[1].log.String(), text) })
}

// TestExpressSurvivesTheCard: a card is killed and comes back, twice, and no packet of the express
// way is lost; slow-path packets meanwhile are a named drop, and its ports are whole behind it.
func TestExpressSurvivesTheCard(t *testing.T) {
	r, cfg := expressCard(t)
	s := r.stream(t)
	s.more(100)
	for range 2 {
		r.kill(1)
		s.more(200)
		if out, err := r.output("h1", "ping", "-c", "1", "-W", "1", "10.1.0.1"); err == nil {
			t.Errorf("a dead card answers:\n%s", out)
		}
		r.start(1)
		s.more(200)
		r.replay(cfg)
		r.says("express path is taken over")
		s.more(200)
	}
	sent, lost := s.end()
	t.Logf("%d datagrams, %d lost", sent, lost)
	if lost > 0 {
		t.Errorf("%d of %d datagrams were lost", lost, sent)
	}
	if n := r.drop(1, "port p1", "rx-no-socket"); n == 0 {
		t.Error("no slow-path packet was counted as dropped")
	}
	r.expressIs(1, "on")
	eventually(t, "own program", func() bool { return r.status(1).ExpressReason == "" })
	r.ping("h1", "10.1.0.1")
	r.ping("red", "10.2.0.2")
	if in, _ := r.flow(50); in.Express < 50 {
		t.Errorf("counted %+v", in)
	}
	// What is not configured any more ends.
	r.kill(1)
	r.start(1)
	cfg.Ports, cfg.Interfaces = cfg.Ports[:1], cfg.Interfaces[:1]
	r.configure(cfg)
	r.says("not configured any more ends")
}

// TestForeignLinksAreRefused: what the supervisor hands over and is not ours is given up, with a
// word why, and the card is as if it had found nothing.
func TestForeignLinksAreRefused(t *testing.T) {
	r, cfg := expressCard(t)
	r.kill(1)
	pipe, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	defer pipe.Close()
	must(t, give(r.stores[1], "xdp/00000042", pipe))
	must(t, give(r.stores[1], "nonsense", pipe))
	r.start(1)
	r.says("is no link")
	r.says("none of this card's")
	r.replay(cfg)
	r.says("express path is taken over")
	r.ping("h1", "10.2.0.2")
}

// give keeps a file as a process of the module would.
func give(s *fdstore.Store, name string, f *os.File) error {
	l, theirs, err := s.NewLine()
	if err != nil {
		return err
	}
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		return errors.Join(err, l.Close(), theirs.Close())
	}
	c, err := fdstore.NewClient(fd)
	if err != nil {
		return errors.Join(err, l.Close(), theirs.Close())
	}
	kept := make(chan error, 1)
	go func() { kept <- c.Keep(name, int(f.Fd())) }()
	for {
		if err := l.Serve(); err != nil {
			return err
		}
		select {
		case err := <-kept:
			return errors.Join(err, c.Close(), theirs.Close(), l.Close())
		default:
		}
	}
}

// TestDetachedProgramIsMended: somebody takes a port's program away; the card notices, says so, and
// forwards again.
func TestDetachedProgramIsMended(t *testing.T) {
	r, cfg := expressCard(t)
	for _, mode := range []string{"auto", "generic"} {
		for i := range cfg.Ports {
			cfg.Ports[i].Mode, cfg.Ports[i].Express = mode, mode == "auto"
		}
		r.configure(cfg)
		r.ping("h1", "10.2.0.2")
		if n := r.detach(); n != 2 {
			t.Fatalf("%s: detached %d links, want two", mode, n)
		}
		eventually(t, "alarm", func() bool {
			return strings.Count(r.cards[1].log.String(), "it is attached again") >= map[string]int{"auto": 2, "generic": 4}[mode]
		})
		r.ping("h1", "10.2.0.2")
	}
}

// detach takes the card's XDP programs from its devices and tells how many.
func (r *rig) detach() (n int) {
	r.t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", r.cards[1].cmd.Process.Pid))
	must(r.t, err)
	for _, path := range list {
		info, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(info), "link_type:\txdp") {
			continue // it may be closed by now
		}
		_, id, _ := strings.Cut(string(info), "link_id:\t")
		id, _, _ = strings.Cut(id, "\n")
		must(r.t, exec.Command("bpftool", "link", "detach", "id", id).Run())
		n++
	}
	return n
}
