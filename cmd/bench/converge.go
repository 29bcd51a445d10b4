package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"godwit/cmd/bench/converge"
)

// Bounds of the measurement.
const (
	// convergeRuns is how many rounds are measured, if time allows. In each, all
	// candidates take their turn.
	convergeRuns = 3
	// convergeTime is when no further round begins that would end later.
	convergeTime = 6 * time.Minute
)

// contender is one candidate and what its rounds gave.
type contender struct {
	name    string
	run     func(ctx context.Context, o converge.Options, t converge.Table) (converge.Result, error)
	results []converge.Result
}

// benchConverge measures the way of the full table from a BGP session into
// two line cards, against BIRD and FRR writing it into the kernel.
func benchConverge(r *report) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own folder: %w", err)
	}
	bin := filepath.Dir(self)
	o := converge.Options{Bin: bin, Trust: filepath.Join(filepath.Dir(bin), "build", "keys", "trust"), Routes: -1, Routes6: -1, Progress: r.progress}
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	t, err := converge.WriteTable(dir, o)
	if err != nil {
		return err
	}
	godwit := &contender{name: "godwit", run: converge.Godwit}
	baselines := []*contender{{name: "bird+linux", run: converge.BIRD}, {name: "frr+linux", run: converge.FRR}}
	all := append([]*contender{godwit}, baselines...)
	if r.only != "" {
		all = slices.DeleteFunc(all, func(c *contender) bool { return c.name != r.only })
		if len(all) == 0 {
			return fmt.Errorf("no candidate %q", r.only)
		}
	}
	if err := convergeRounds(r, all, o, t); err != nil {
		return err
	}
	if r.only != "" {
		return convergeAlone(r, all[0])
	}
	for _, b := range baselines {
		if err := convergeFigures(r, godwit, b); err != nil {
			return err
		}
	}
	return convergeProcesses(r, godwit)
}

// convergeRounds runs the candidates in turn, each round with another one first.
func convergeRounds(r *report, all []*contender, o converge.Options, t converge.Table) error {
	start := time.Now()
	rounds := convergeRuns
	if r.runs > 0 {
		rounds = r.runs
	}
	for i := range rounds {
		if spent := time.Since(start); i > 0 && spent+spent/time.Duration(i) > convergeTime {
			r.progress("%d rounds: no time for another", i)
			return nil
		}
		for j := range all {
			c := all[(i+j)%len(all)]
			res, err := c.run(context.Background(), o, t)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.results = append(c.results, res)
			var parts []string
			for _, p := range res.Processes {
				parts = append(parts, fmt.Sprintf("%s %.1f CPU-s %d MB", p.Name, p.CPU, p.Memory>>20))
			}
			r.progress("round %d: %s: %d routes in %.1f s, %.1f CPU-s, %d MB (%s)",
				i+1, c.name, res.Routes, res.Seconds, res.CPU, res.Memory>>20, strings.Join(parts, ", "))
		}
	}
	return nil
}

// values takes one number of each round.
func (c *contender) values(f func(converge.Result) float64) []float64 {
	var v []float64
	for _, res := range c.results {
		v = append(v, f(res))
	}
	return v
}

func convergeFigures(r *report, c, base *contender) error {
	for _, f := range []struct {
		name, unit string
		value      func(converge.Result) float64
	}{
		{"converge.full", "s", func(x converge.Result) float64 { return x.Seconds }},
		{"converge.cpu", "s", func(x converge.Result) float64 { return x.CPU }},
		{"converge.memory", "bytes", func(x converge.Result) float64 { return float64(x.Memory) }},
	} {
		if err := r.against(f.name, f.unit, "less", c.values(f.value), base.name, base.values(f.value)); err != nil {
			return err
		}
	}
	return nil
}

// convergeAlone prints the figures of a candidate that was run without the others.
func convergeAlone(r *report, c *contender) error {
	if err := r.figure("converge.full."+c.name, "s", "less", c.values(func(x converge.Result) float64 { return x.Seconds })); err != nil {
		return err
	}
	return convergeProcesses(r, c)
}

// convergeProcesses prints the shares of the processes.
func convergeProcesses(r *report, c *contender) error {
	for i, p := range c.results[0].Processes {
		share := func(res converge.Result) converge.Process {
			if j := slices.IndexFunc(res.Processes, func(q converge.Process) bool { return q.Name == p.Name }); j >= 0 {
				return res.Processes[j]
			}
			return res.Processes[i]
		}
		if err := r.figure("converge.cpu."+p.Name, "s", "less", c.values(func(x converge.Result) float64 { return share(x).CPU })); err != nil {
			return err
		}
		if err := r.figure("converge.memory."+p.Name, "bytes", "less", c.values(func(x converge.Result) float64 { return float64(share(x).Memory) })); err != nil {
			return err
		}
	}
	return nil
}
