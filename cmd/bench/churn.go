package main

import (
	"context"
	"fmt"

	churning "godwit/cmd/bench/churn"
	"godwit/controlplane/bgp/bgptest"
)

// What churns.
const (
	churnRate     = 10_000 // changes a second
	churnFlapping = 20_000 // prefixes: each moves once in two seconds
)

// benchChurn measures what is lost while routes change, at half of the rate that
// the router forwards by AF_XDP; the baselines are the same load without changes, and the kernel.
func benchChurn(r *report) error {
	where, err := picOptions(r)
	if err != nil {
		return err
	}
	table, _, err := bgptest.Prefixes(r.routes, 0)
	if err != nil {
		return err
	}
	o := churning.Options{Bin: where.Bin, Trust: where.Trust, Prefixes: table, Flapping: min(churnFlapping, len(table)/20), Changes: churnRate, D: r.time, Progress: r.progress}
	res, err := churning.Run(context.Background(), o)
	if err != nil {
		return err
	}
	linux, err := churning.Linux(context.Background(), o)
	if err != nil {
		return fmt.Errorf("measure linux: %w", err)
	}
	if err := r.against("churn.maximum", "pps", "more", []float64{res.Maximum}, "linux", []float64{linux.Maximum}); err != nil {
		return err
	}
	lost := func(l churning.Load) float64 { return float64(l.Steady + l.Flapping) }
	for _, f := range []struct {
		name, unit, better string
		value              func(churning.Load) float64
	}{
		{"churn.sent", "packets", "more", func(l churning.Load) float64 { return float64(l.Sent) }},
		{"churn.lost", "packets", "less", lost},
		{"churn.lost.steady", "packets", "less", func(l churning.Load) float64 { return float64(l.Steady) }},
		{"churn.lost.inside", "packets", "less", func(l churning.Load) float64 { return float64(l.Inside) }},
		{"churn.misdelivered", "packets", "less", func(l churning.Load) float64 { return float64(l.Misdelivered) }},
	} {
		if err := r.beside(f.name, f.unit, f.better, f.value(res.Churn), "no changes", f.value(res.Still)); err != nil {
			return err
		}
		if f.name == "churn.lost.inside" {
			continue // the kernel does not tell
		}
		if err := r.beside(f.name, f.unit, f.better, f.value(res.Churn), "linux, replacing routes by netlink", f.value(linux.Churn)); err != nil {
			return err
		}
	}
	return r.against("churn.changes", "changes/s", "more", []float64{res.Churn.Reached()}, "linux", []float64{linux.Churn.Reached()})
}

// beside prints a count beside its baseline; both may be 0, and then there is no ratio.
func (r *report) beside(name, unit, better string, value float64, baseline string, base float64) error {
	f := figure{Name: name, Value: value, Unit: unit, Better: better, Baseline: baseline, BaselineValue: base, Runs: 1}
	if base != 0 {
		f.Ratio = value / base
	}
	if err := r.out.Encode(f); err != nil {
		return fmt.Errorf("print figure: %w", err)
	}
	return nil
}
