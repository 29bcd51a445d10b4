package churn

import (
	"strings"
	"testing"
	"time"
)

func TestRestartTellsItsOutage(t *testing.T) {
	r := Restart{Module: "linecard-1", Rate: 10_000, Sent: 30_000, Lost: 500, Back: 1200 * time.Millisecond}
	if r.Outage() != 50*time.Millisecond {
		t.Errorf("outage %v", r.Outage())
	}
	for _, want := range []string{"linecard-1", "500 of 30000", "50ms", "1.2s"} {
		if !strings.Contains(r.String(), want) {
			t.Errorf("%q lacks %q", r, want)
		}
	}
}
