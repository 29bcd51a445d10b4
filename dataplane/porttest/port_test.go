package porttest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"godwit/dataplane/graph"
)

func TestPort(t *testing.T) {
	pool := NewPool(4)
	p := New(7, pool)
	for i := range 6 {
		p.Put(bytes.Repeat([]byte{byte(i)}, 60+i))
	}
	p.Put(make([]byte, pool.Room()+1))
	var v graph.Vector
	if err := p.Rx(&v); err != nil || v.N != 4 || p.Waiting() != 3 {
		t.Fatalf("%v, %d received, %d wait", err, v.N, p.Waiting())
	}
	if v.P[3].Port != 7 || len(v.P[3].Data) != 63 || v.P[3].Data[0] != 3 {
		t.Errorf("packet %+v", v.P[3])
	}
	p.Limit = 3
	if err := p.Tx(&v); err != nil || v.N != 0 || pool.Free() != 1 || p.Lost != 1 {
		t.Errorf("%v, %d left, %d free, %d lost", err, v.N, pool.Free(), p.Lost)
	}
	if err := p.Flush(); err != nil || pool.Free() != 4 {
		t.Errorf("%v, %d free after Flush", err, pool.Free())
	}
	if s := p.Sent(); len(s) != 3 || s[2][0] != 2 || len(p.Sent()) != 0 {
		t.Errorf("sent %v", s)
	}
	if p.Rx(&v); v.N != 2 || p.Lost != 2 {
		t.Errorf("%d received, %d lost", v.N, p.Lost)
	}
	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := p.WritePcap(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if _, _, err := r.ReadPacketData(); err != nil {
			break
		}
		n++
	}
	if n != 9 {
		t.Errorf("%d packets in the file, want 4 in, 3 out, 2 in", n)
	}
	p.Close()
	if err := p.Rx(&v); !errors.Is(err, ErrClosed) {
		t.Errorf("closed port: %v", err)
	}
	p.Tx(&v)
	if pool.Free() != 4 {
		t.Errorf("%d free, want all", pool.Free())
	}
}
