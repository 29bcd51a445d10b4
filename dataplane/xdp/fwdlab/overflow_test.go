package fwdlab

import "testing"

func TestXmitErrors(t *testing.T) {
	good := "NIC statistics:\n     peer_ifindex: 7\n     tx_queue_0_xdp_xmit: 99\n     tx_queue_0_xdp_xmit_errors: 5\n     tx_queue_1_xdp_xmit_errors: 6\n"
	if n, err := xmitErrors([]byte(good)); err != nil || n != 11 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "no stats available\n", "tx_queue_0_xdp_xmit_errors: many\n"} {
		if _, err := xmitErrors([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// TestOverflowsAreCounted: a sender without a receiver in time is what fills rings; here only that
// the counters are there.
func TestOverflowsAreCounted(t *testing.T) {
	l, err := New("gwt-over")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n, err := l.Overflows(); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}
