package fwdlab

import (
	"testing"
	"time"
)

// TestTCPThroughKernel makes one short transfer.
func TestTCPThroughKernel(t *testing.T) {
	l, err := New("gwt-fwdlab")
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	must(t, l.KernelForwards(true))
	res, err := l.TCP(nil, time.Second)
	must(t, err)
	if res.Mbps < 10 || res.PerGbit < time.Millisecond {
		t.Errorf("%+v", res)
	}
}

func TestParseTCP(t *testing.T) {
	got, err := parseTCP([]byte(`{"end":{"sum_sent":{"retransmits":7},"sum_received":{"bytes":250000000,"bits_per_second":2e9}}}`), 3*time.Second)
	must(t, err)
	if want := (TCPResult{Mbps: 2000, Retransmits: 7, PerGbit: 1500 * time.Millisecond}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "{}", `{"end":{"sum_received":{"bytes":0}}}`, "[1]"} {
		if _, err := parseTCP([]byte(bad), 0); err == nil {
			t.Errorf("%q is a report", bad)
		}
	}
}
