package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	churning "godwit/cmd/bench/churn"
	"godwit/controlplane/bgp/bgptest"
)

// soakRate is that of the changes of routes, a second.
const soakRate = 1_000

// benchSoak runs a router at 70 % of its most while everything around it changes, and
// fails if it leaks or misdelivers.
func benchSoak(r *report) error {
	where, err := picOptions(r)
	if err != nil {
		return err
	}
	table, _, err := bgptest.Prefixes(r.routes, 0)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	res, err := churning.Soak(ctx, churning.Options{Bin: where.Bin, Trust: where.Trust, Prefixes: table,
		Flapping: min(churnFlapping, len(table)/20), Changes: soakRate, D: r.soak, Rate: r.rate, Progress: r.progress})
	if err != nil {
		return err
	}
	l := res.Load
	for _, f := range []struct {
		name, unit, better string
		value              float64
	}{
		{"soak.sent", "packets", "more", float64(l.Sent)},
		{"soak.rate", "pps", "more", l.Rate()},
		{"soak.lost", "packets", "less", float64(l.Steady + l.Flapping)},
		{"soak.lost.inside", "packets", "less", float64(l.Inside)},
		{"soak.misdelivered", "packets", "less", float64(l.Misdelivered)},
		{"soak.changes", "changes/s", "more", l.Reached()},
		{"soak.flaps", "flaps", "more", float64(res.Flaps + res.Remade)},
		{"soak.neighbors", "announcements", "more", float64(res.Neighbors)},
	} {
		if err := r.figure(f.name, f.unit, f.better, []float64{f.value}); err != nil {
			return err
		}
	}
	for name, before := range res.Before {
		after := res.After[name]
		if err := r.beside("soak.memory."+name, "MB", "less", float64(after.Memory)/1e6, "after a tenth of the time", float64(before.Memory)/1e6); err != nil {
			return err
		}
		if err := r.beside("soak.descriptors."+name, "descriptors", "less", float64(after.Descriptors), "after a tenth of the time", float64(before.Descriptors)); err != nil {
			return err
		}
	}
	return nil
}
