package xdp

import (
	"bytes"
	"sync"
	"testing"

	"godwit/dataplane/express"
)

func newTestExpress(t *testing.T) *Express {
	t.Helper()
	x, err := NewExpress()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// TestExpressIsOffAtFirst: a port whose On is 0 gives every frame to AF_XDP, unchanged.
func TestExpressIsOffAtFirst(t *testing.T) {
	x := newTestExpress(t)
	p, err := x.Load(4)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i, f := range [][]byte{make([]byte, 14), make([]byte, 60), bytes.Repeat([]byte{0x45}, 1514)} {
		verdict, out, err := p.Test(f)
		if err != nil || verdict != VerdictDrop || !bytes.Equal(out, f) || p.NoSocket() != uint64(i+1) {
			t.Errorf("frame of %d bytes: verdict %d, %v; %d without a socket", len(f), verdict, err, p.NoSocket())
		}
	}
	if n := x.Traffic(1); n != (Traffic{}) {
		t.Errorf("counted %+v", n)
	}
}

// TestExpressSegments come when they are asked for, and hold what is written.
func TestExpressSegments(t *testing.T) {
	x := newTestExpress(t)
	before := x.Bytes()
	s := x.Segment(5)
	if len(s) != express.SegmentWords || x.Bytes() != before+4*express.SegmentWords {
		t.Fatalf("segment of %d words, %d bytes more", len(s), x.Bytes()-before)
	}
	s[7] = 9
	if again := x.Segment(5); again[7] != 9 {
		t.Error("a segment forgets")
	}
	if x.Segment(-1) != nil || x.Segment(express.Segments) != nil {
		t.Error("a segment out of range")
	}
}

// TestExpressKernelTables: entries come and go; what is not there is an error, never a crash.
func TestExpressKernelTables(t *testing.T) {
	x := newTestExpress(t)
	a := express.Address{Scope: 3, Hi: 1, Lo: 2}
	for _, c := range []struct {
		set, del func() error
	}{
		{func() error { return x.SetNeighbor(a, 4) }, func() error { return x.DeleteNeighbor(a) }},
		{func() error { return x.SetLocal(a) }, func() error { return x.DeleteLocal(a) }},
	} {
		if err := c.set(); err != nil {
			t.Error(err)
		}
		if err := c.del(); err != nil {
			t.Error(err)
		}
		if c.del() == nil {
			t.Error("deleted twice")
		}
	}
	if err := x.SetDevice(5, 0); err != nil {
		t.Errorf("a device that is not there: %v", err)
	}
	if x.SetDevice(5, 1<<30) == nil || x.SetDevice(60000, 1) == nil {
		t.Error("a device that is none was taken")
	}
	if x.Routed(1<<30) != (Count{}) || x.Traffic(60000) != (Traffic{}) {
		t.Error("counters out of range")
	}
}

// TestExpressWaits from several goroutines, and not behind Close.
func TestExpressWaits(t *testing.T) {
	x, err := NewExpress()
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			for range 3 {
				if err := x.Wait(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	g.Wait()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if x.Wait() == nil {
		t.Error("waited on a closed path")
	}
}
