package express_test

import (
	"bytes"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"godwit/dataplane/header"
	"godwit/dataplane/sampling"
	"godwit/dataplane/xdp"
)

// plain is a frame of plain transit from port 1 to a host on port 2, with n bytes in it.
func plain(n int) []byte {
	f := make([]byte, 14+header.IPv4Len+n)
	header.PutEthernet(f, portMAC(1), hostMAC(1, 0, 2), header.TypeIPv4)
	header.PutIPv4(f[14:], header.IPv4Len+n, 1, 0, 0, 64, header.ProtoUDP, host4(1, 2), host4(2, 3))
	for i := 34; i < len(f); i++ {
		f[i] = byte(i)
	}
	return f
}

// TestSampling: both ways take one of N, at random, with the frame as it was received.
func TestSampling(t *testing.T) {
	r := newRig(t)
	const rate, frames = 16, 8000
	r.list[0].Sample = rate
	r.interfaces()
	f := plain(400)
	fast, slow, gaps := 0, 0, map[int]bool{}
	last := 0
	begin := monotonic(t)
	for i := range frames {
		if verdict, _, err := r.port[1].Test(f); err != nil || verdict != xdp.VerdictRedirect {
			t.Fatal(verdict, err)
		}
		if _, err := r.x.Samples(10, func(s *xdp.Sample) {
			fast++
			gaps[i-last] = true
			last = i
			if s.Rate != rate || int(s.Length) != len(f) || !bytes.Equal(s.Header, f[:sampling.HeaderMax]) || s.Slot != 1 || s.Time < begin || s.Time > monotonic(t) {
				t.Fatalf("sample %+v", s)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.slowWay(1, f); !ok {
			t.Fatal("not forwarded")
		}
		for s := r.pipe.Samples().Peek(); s != nil; s = r.pipe.Samples().Peek() {
			slow++
			if s.Rate != rate || int(s.Length) != len(f) || !bytes.Equal(s.Header[:s.N], f[:sampling.HeaderMax]) || s.Interface != ifaceID(1, 0) || s.Time != int64(r.seq) {
				t.Fatalf("sample %+v", s)
			}
			r.pipe.Samples().Pop()
		}
	}
	for name, n := range map[string]int{"express": fast, "pipeline": slow} { // standard deviation: 13
		if want := frames / rate; n < want-80 || n > want+80 {
			t.Errorf("%s: %d samples of %d frames, want %d", name, n, frames, want)
		}
	}
	for gap := range gaps {
		if gap > runtime.NumCPU()*(2*rate-1) { // each core counts for itself
			t.Errorf("a gap of %d frames", gap)
		}
	}
	if len(gaps) < rate {
		t.Errorf("only %d different gaps: that is not random", len(gaps))
	}
	// Short frames, all of them, and more than there is room for.
	r.list[0].Sample = 1
	r.interfaces()
	short := plain(8)
	const many = 3000
	for range many {
		if _, _, err := r.port[1].Test(short); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for {
		got, err := r.x.Samples(100, func(s *xdp.Sample) {
			if !bytes.Equal(s.Header, short) {
				t.Fatalf("sample %+v", s)
			}
		})
		if n += got; err != nil || got == 0 {
			break
		}
	}
	if lost := r.x.SamplesLost(); n == many || uint64(n)+lost != many {
		t.Errorf("%d samples and %d lost, of %d", n, lost, many)
	}
}

func monotonic(t *testing.T) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}
