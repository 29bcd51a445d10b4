package audit

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestRingKeepsTheLatest(t *testing.T) {
	r := NewRing(3)
	if got := r.Latest(0); len(got) != 0 {
		t.Errorf("empty ring: %v", got)
	}
	for i := range 5 {
		e, _ := r.Add(Event{Verdict: Allowed, File: fmt.Sprint(i)})
		if e.Sequence != uint64(i+1) {
			t.Errorf("sequence %d", e.Sequence)
		}
		got := r.Latest(0)
		if want := min(i+1, 3); len(got) != want || got[len(got)-1].File != fmt.Sprint(i) || got[0].Sequence != uint64(i+2-want) {
			t.Fatalf("after %d: %v", i+1, got)
		}
	}
	if got := r.Latest(2); len(got) != 2 || got[0].File != "3" || got[1].File != "4" {
		t.Errorf("%v", got)
	}
	if got := r.Latest(99); len(got) != 3 {
		t.Errorf("%v", got)
	}
}

// An alarm begins with the first denial of a file and ends when it is allowed.
func TestAlarms(t *testing.T) {
	r := NewRing(8)
	at := time.Unix(1000, 0)
	add := func(v Verdict, file, reason string) bool {
		at = at.Add(time.Second)
		_, raised := r.Add(Event{Time: at, Verdict: v, File: file, Role: "bgp", Reason: reason})
		return raised
	}
	if add(Allowed, "a", "") || !add(Denied, "a", "revoked") || add(Denied, "a", "expired") || !add(Permitted, "b", "unsigned") {
		t.Error("raised")
	}
	a := r.Alarms()
	if len(a) != 2 || a[0].File != "a" || a[0].Count != 2 || a[0].Reason != "expired" || !a[0].Since.Equal(time.Unix(1002, 0)) || a[1].Count != 1 {
		t.Errorf("%+v", a)
	}
	if add(Allowed, "a", ""); len(r.Alarms()) != 1 {
		t.Errorf("%+v", r.Alarms())
	}
	if ok, no := r.Counts(); ok != 2 || no != 3 {
		t.Errorf("%d allowed, %d not", ok, no)
	}
	for i := range 2 * maxAlarms {
		add(Denied, fmt.Sprint(i), "unsigned")
	}
	if n := len(r.Alarms()); n != maxAlarms {
		t.Errorf("%d alarms", n)
	}
}

func TestManyWriters(t *testing.T) {
	r := NewRing(10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				r.Add(Event{Verdict: Denied})
				r.Latest(5)
			}
		})
	}
	wg.Wait()
	got := r.Latest(0)
	for i := range got {
		if got[i].Sequence != uint64(791+i) {
			t.Errorf("event %d has sequence %d", i, got[i].Sequence)
		}
	}
}
