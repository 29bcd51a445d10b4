// Package porttest has memory twins of ports: what a test puts in comes out
// of Rx, what is sent is recorded as bytes, and buffers go back to the pool as from
// a real port. A port can be sniffed into a pcap file.
package porttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"godwit/dataplane/graph"
	"godwit/fib"
)

// ErrClosed is returned by a closed port.
var ErrClosed = errors.New("port closed")

// Frame is a frame that was received (Out false) or sent.
type Frame struct {
	Out  bool
	Data []byte
}

// Port is a graph.Port in memory. One goroutine uses it.
type Port struct {
	id      fib.PortID
	pool    *graph.Pool
	waiting [][]byte
	sent    [][]byte
	ring    []*graph.Packet // sent, not yet completed: Flush gives them back
	sniffed []Frame
	closed  bool

	// Limit is how many frames Tx takes until Flush; 0: any number. What is
	// beyond it is counted in Lost.
	Limit int
	Lost  int
}

var _ graph.Port = (*Port)(nil)

// New makes a port whose buffers come from pool.
func New(id fib.PortID, pool *graph.Pool) *Port { return &Port{id: id, pool: pool} }

// ID is the port's number.
func (p *Port) ID() fib.PortID { return p.id }

// Put makes frames wait for Rx; each is copied.
func (p *Port) Put(frames ...[]byte) {
	for _, f := range frames {
		p.waiting = append(p.waiting, append([]byte(nil), f...))
	}
}

// Rx appends waiting frames to v. A frame larger than a buffer is lost.
func (p *Port) Rx(v *graph.Vector) error {
	if p.closed {
		return ErrClosed
	}
	for v.N < graph.VectorSize && len(p.waiting) > 0 {
		f := p.waiting[0]
		if len(f) > p.pool.Room() {
			p.Lost++
			p.waiting = p.waiting[1:]
			continue
		}
		pkt := p.pool.Get()
		if pkt == nil {
			return nil // no buffer: it waits
		}
		p.waiting = p.waiting[1:]
		pkt.Data = append(pkt.Data, f...)
		pkt.Port = p.id
		p.sniffed = append(p.sniffed, Frame{false, f})
		v.Push(pkt)
	}
	return nil
}

// Tx records the frames and keeps the packets until Flush.
func (p *Port) Tx(v *graph.Vector) error {
	for _, pkt := range v.P[:v.N] {
		if p.closed || p.Limit > 0 && len(p.ring) >= p.Limit {
			p.Lost++
			p.pool.Put(pkt)
			continue
		}
		f := append([]byte(nil), pkt.Data...)
		p.sent = append(p.sent, f)
		p.sniffed = append(p.sniffed, Frame{true, f})
		p.ring = append(p.ring, pkt)
	}
	v.N = 0
	return nil
}

// Flush completes transmission: the buffers go back to the pool.
func (p *Port) Flush() error {
	for _, pkt := range p.ring {
		p.pool.Put(pkt)
	}
	p.ring = p.ring[:0]
	return nil
}

// Close gives the buffers back.
func (p *Port) Close() error {
	p.closed = true
	return p.Flush()
}

// Sent returns the frames sent since the last call.
func (p *Port) Sent() [][]byte {
	s := p.sent
	p.sent = nil
	return s
}

// Waiting tells how many frames wait for Rx.
func (p *Port) Waiting() int { return len(p.waiting) }

// KeepOnFailure writes what passed the port to a pcap file if the test
// fails, and logs where.
func (p *Port) KeepOnFailure(t testing.TB) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		path := filepath.Join(os.TempDir(), fmt.Sprintf("gwt-%d-port-%x.pcap", os.Getpid(), uint32(p.id)))
		if err := p.WritePcap(path); err != nil {
			t.Logf("keep packets: %v", err)
			return
		}
		t.Logf("packets of port %#x are in %s", uint32(p.id), path)
	})
}

// WritePcap writes what passed the port so far, in order, a microsecond apart.
func (p *Port) WritePcap(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write pcap: %w", err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return fmt.Errorf("write pcap: %w", err)
	}
	for i, fr := range p.sniffed {
		ci := gopacket.CaptureInfo{Timestamp: time.UnixMicro(int64(i)), CaptureLength: len(fr.Data), Length: len(fr.Data)}
		if err := w.WritePacket(ci, fr.Data); err != nil {
			return fmt.Errorf("write pcap: %w", err)
		}
	}
	return nil
}

// NewPool makes a pool of n buffers of 2,048 bytes in ordinary memory.
func NewPool(n int) *graph.Pool {
	p, err := graph.NewPool(make([]byte, n*2048), 2048)
	if err != nil {
		panic(err)
	}
	return p
}
