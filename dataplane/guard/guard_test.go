package guard

import (
	"sync"
	"testing"

	"godwit/dataplane/filter"
)

const second = int64(1e9)

// offer measures n packets of a size at a steady rate over a time, and returns bytes by color.
func offer(p *Policer, from, over int64, size, n int) (bytes [3]uint64) {
	_, before := p.Stats()
	for i := range n {
		p.Meter(from+over*int64(i)/int64(n), size)
	}
	_, after := p.Stats()
	for c := range bytes {
		bytes[c] = after[c] - before[c]
	}
	return bytes
}

func near(t *testing.T, what string, got, want uint64) {
	t.Helper()
	if got+want/50+2000 < want || got > want+want/50+2000 {
		t.Errorf("%s: %d bytes, want %d", what, got, want)
	}
}

// TestRate: of twice the rate, the rate and once the burst pass, at any size of packets.
func TestRate(t *testing.T) {
	for _, size := range []int{64, 1000, 9000} {
		p, err := NewPolicer(Rate{Rate: 8_000_000, Burst: 50_000})
		if err != nil {
			t.Fatal(err)
		}
		got := offer(p, second, 10*second, size, 20_000_000/size)
		near(t, "within", got[Green], 10_000_000+50_000)
		near(t, "dropped", got[Red], 20_000_000-10_050_000)
		// After a pause only one burst has come together.
		p.Meter(100*second, 0)
		near(t, "burst", offer(p, 100*second, 1, size, 200_000/size)[Green], uint64(50_000/size*size))
	}
}

// TestTwoRates: RFC 2698, color-blind: above the peak red, above the rate yellow.
func TestTwoRates(t *testing.T) {
	p, err := NewPolicer(Rate{Rate: 8_000_000, Burst: 20_000, Peak: 16_000_000, PeakBurst: 20_000, Exceed: 8})
	if err != nil || p.Exceed() != 8 {
		t.Fatal(err)
	}
	got := offer(p, second, 10*second, 500, 60_000) // 3 MB/s
	near(t, "green", got[Green], 10_000_000+20_000)
	near(t, "yellow", got[Yellow], 10_000_000)
	near(t, "red", got[Red], 10_000_000-20_000)
	if got := offer(p, 100*second, 10*second, 500, 18_000); got[Yellow]+got[Red] != 0 { // 0.9 MB/s
		t.Errorf("below the rate: %v", got)
	}
}

// TestRateHoldsForAllWorkers: what several goroutines measure together is the rate.
func TestRateHoldsForAllWorkers(t *testing.T) {
	p, err := NewPolicer(Rate{Rate: 8_000_000, Burst: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { offer(p, second, second, 100, 20_000) })
	}
	wg.Wait()
	packets, bytes := p.Stats()
	if packets[Green]+packets[Red] != 80_000 || bytes[Green] > 1_000_000+10_000 || bytes[Green] < 1_000_000 {
		t.Errorf("packets %v, bytes %v", packets, bytes)
	}
}

func TestBadRatesAreRefused(t *testing.T) {
	for name, r := range map[string]Rate{
		"none": {}, "slow": {Rate: 1, Burst: 9000}, "burst": {Rate: 1e6, Burst: 100}, "peak": {Rate: 1e6, Burst: 9000, Peak: 1e5, PeakBurst: 9000},
		"peak burst": {Rate: 1e6, Burst: 9000, Peak: 1e7}, "dscp": {Rate: 1e6, Burst: 9000, Exceed: 64},
	} {
		if _, err := NewPolicer(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLogIsBounded: a flood costs a bounded number of entries a second; the rest is counted.
func TestLogIsBounded(t *testing.T) {
	list, err := filter.Compile([]filter.Rule{{Log: true}})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPolicy(7, false, list)
	p.Log = NewLog()
	k := filter.Key{Family: 4}
	taken := 0
	const n = 10_000
	for i := range n {
		p.Permits(int64(i)*second/1000, &k) // ten seconds
		for {
			e, ok := p.Log.Take()
			if !ok {
				break
			}
			if e.Policy != p || e.Rule != 0 || e.Key != k {
				t.Fatalf("entry %+v", e)
			}
			taken++
		}
	}
	if taken < 90 || taken > 10*logRate+logBurst+1 || p.Log.Left() != uint64(n-taken) {
		t.Errorf("%d entries, %d left out", taken, p.Log.Left())
	}
	if hits, _ := p.Stats(); hits[0] != n || hits[1] != 0 {
		t.Errorf("hits %v", hits)
	}
	full := NewLog()
	for i := range 100 { // nobody takes
		full.add(int64(i)*second, Entry{Policy: p})
	}
	if full.Left() != 100-logBurst {
		t.Errorf("%d left out", full.Left())
	}
}

func TestPolicyAllocatesNothing(t *testing.T) {
	list, err := filter.Compile([]filter.Rule{{Deny: true, VLAN: 1}, {Log: true}})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPolicy(7, false, list)
	p.Log = NewLog()
	p.Policer, _ = NewPolicer(Rate{Rate: 8000, Burst: 9000})
	k := filter.Key{Family: 4}
	if n := testing.AllocsPerRun(100, func() {
		p.Permits(0, &k)
		p.Policer.Meter(0, 100)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
