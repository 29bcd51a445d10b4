package churn

import (
	"strings"
	"testing"
	"time"
)

func TestRestartTellsItsOutage(t *testing.T) {
	r := Restart{Module: "linecard-1", Rate: 10_000, Sent: 30_000, Lost: 510, Lab: 10, Back: 1200 * time.Millisecond}
	if r.Outage() != 50*time.Millisecond {
		t.Errorf("outage %v", r.Outage())
	}
	if r.Inside() != 500 || (Restart{Lost: 3, Lab: 4}).Inside() != 0 {
		t.Errorf("inside: %d", r.Inside())
	}
	for _, want := range []string{"linecard-1", "510 of 30000", "10 of them", "50ms", "1.2s"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q lacks %q", r, want)
		}
	}
}
