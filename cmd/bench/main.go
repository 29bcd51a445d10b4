// Command bench measures the router against its baselines. It prints one JSON
// object a figure on standard output and progress on standard error:
//
//	bench fib
//	bench            # everything but soak
//	bench --only godwit --runs 1 converge   # one candidate, without baselines: for profiling
//
// Each NAME has a file of its own, which adds itself to the list in main.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
)

// figure is one measured value beside its baseline of the same run.
type figure struct {
	Name          string  `json:"name"`
	Value         float64 `json:"value"`
	Unit          string  `json:"unit"`
	Better        string  `json:"better"` // "more" or "less"
	Baseline      string  `json:"baseline,omitempty"`
	BaselineValue float64 `json:"baseline_value,omitempty"`
	Ratio         float64 `json:"ratio,omitempty"` // value/baseline_value, median of the paired runs
	Runs          int     `json:"runs"`
	Spread        float64 `json:"spread"` // (max-min)/median of the values
}

// benchmark is one NAME.
type benchmark struct {
	name string
	run  func(*report) error
}

func main() {
	all := []benchmark{
		{"fib", benchFIB},
		{"converge", benchConverge},
		{"forward", benchForward},
		{"sign", benchSign},
		{"bus", benchBus},
		{"pic", benchPIC},
		{"bfd", benchBFD},
		{"leak", benchLeak},
		{"churn", benchChurn},
		{"restart", benchRestart},
		{"event", benchEvent},
		{"soak", benchSoak},
	}
	if len(os.Args) == 2 && os.Args[1] == hiccupWord {
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		if err := hiccups(interrupted); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	r := &report{out: json.NewEncoder(os.Stdout), start: time.Now()}
	flag.StringVar(&r.only, "only", "", "run the candidate, or the size, of this `name` alone (converge, pic; bfd: godwit, linux), or these parts, with commas (forward: one, full, families, vrfs; event: paced, backlog, timers, protocol)")
	flag.IntVar(&r.runs, "runs", 0, "rounds, instead of what the benchmark thinks right (converge, forward, event, pic)")
	flag.DurationVar(&r.watch, "watch", 0, "watch the sessions so much longer while tables come in (bfd; 5m is the whole)")
	flag.DurationVar(&r.time, "time", time.Minute, "how long routes change (churn)")
	flag.DurationVar(&r.soak, "soak", 30*time.Minute, "how long (soak)")
	flag.IntVar(&r.rate, "rate", 0, "packets a second instead of 70 % of the most (soak)")
	flag.IntVar(&r.routes, "routes", 900_000, "prefixes of the table (bfd, churn, restart, soak)")
	flag.Parse()
	if err := run(r, all, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(r *report, all []benchmark, names []string) error {
	for _, n := range names {
		if !slices.ContainsFunc(all, func(b benchmark) bool { return b.name == n }) {
			return fmt.Errorf("no benchmark %q", n)
		}
	}
	for _, b := range all {
		if len(names) > 0 && !slices.Contains(names, b.name) || len(names) == 0 && b.name == "soak" {
			continue // half an hour, when it is asked for
		}
		if err := b.run(r); err != nil {
			return fmt.Errorf("measure %s: %w", b.name, err)
		}
	}
	return nil
}

// report takes figures and progress.
type report struct {
	out    *json.Encoder
	start  time.Time
	only   string // candidate to run alone, "": all
	runs   int    // rounds, 0: as the benchmark wants
	watch  time.Duration
	time   time.Duration
	soak   time.Duration
	rate   int
	routes int
}

// progress tells a person what goes on.
func (r *report) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// figure prints the median of the runs.
func (r *report) figure(name, unit, better string, values []float64) error {
	return r.against(name, unit, better, values, "", nil)
}

// against prints the median of the runs, and of the ratios to the baseline's
// runs, which are paired with them.
func (r *report) against(name, unit, better string, values []float64, baseline string, base []float64) error {
	f := figure{Name: name, Value: median(values), Unit: unit, Better: better, Runs: len(values)}
	if f.Value != 0 {
		f.Spread = (slices.Max(values) - slices.Min(values)) / f.Value
	}
	if len(base) > 0 {
		ratios := make([]float64, len(base))
		for i := range base {
			ratios[i] = values[i] / base[i]
		}
		f.Baseline, f.BaselineValue, f.Ratio = baseline, median(base), median(ratios)
	}
	if err := r.out.Encode(f); err != nil {
		return fmt.Errorf("print figure: %w", err)
	}
	return nil
}

func median(v []float64) float64 { return quantile(v, 0.5) }

// quantile sorts a copy; q is from 0 to 1.
func quantile(v []float64, q float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	if len(s) == 0 {
		return 0
	}
	return s[int(q*float64(len(s)-1)+0.5)]
}
