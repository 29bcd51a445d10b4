package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"godwit/cmd/bench/pic"
)

// benchBFD measures sessions of 3 x 50 ms with two upstreams that send a full table: false
// alarms while it comes in on the same cores, detection of an upstream that falls silent, and the repair, against BIRD
// with the kernel.
func benchBFD(r *report) error {
	o, err := picOptions(r)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	table, err := pic.NewTable(dir, r.routes)
	if err != nil {
		return err
	}
	var ours, base pic.Silence
	if r.only != "linux" {
		if ours, err = pic.GodwitSilence(ctx, o, table, r.watch); err != nil {
			return fmt.Errorf("measure godwit: %w", err)
		}
		r.progress("Godwit: loaded in %v, %d false alarms in %v, latest timer %v; detected after %v, first repaired after %v, last after %v",
			ours.Load.Round(time.Millisecond), ours.Flaps, ours.Watched.Round(time.Millisecond), ours.Late, ours.Detect, ours.First, ours.Last)
	}
	if r.only != "godwit" {
		if base, err = pic.KernelSilence(ctx, o, table); err != nil {
			return fmt.Errorf("BIRD with the kernel: %w", err)
		}
		r.progress("BIRD with the kernel: loaded in %v; first repaired after %v, last after %v", base.Load.Round(time.Millisecond), base.First, base.Last)
	}
	return r.bfd(ours, base)
}

// bfd prints the figures of whom was measured.
func (r *report) bfd(ours, base pic.Silence) error {
	for _, f := range []struct {
		name       string
		ours, base time.Duration
	}{{"bfd.outage-first", ours.First, base.First}, {"bfd.outage-last", ours.Last, base.Last}} {
		var err error
		switch {
		case r.only == "linux":
			err = r.figure(f.name+".bird+linux", "ms", "less", []float64{millis(f.base)})
		case r.only == "godwit":
			err = r.figure(f.name, "ms", "less", []float64{millis(f.ours)})
		default:
			err = r.against(f.name, "ms", "less", []float64{millis(f.ours)}, "bird+linux", []float64{millis(f.base)})
		}
		if err != nil {
			return err
		}
	}
	if r.only == "linux" {
		return nil
	}
	for name, d := range map[string]time.Duration{"bfd.detect": ours.Detect, "bfd.repair-first": ours.First - ours.Detect, "bfd.repair-last": ours.Last - ours.Detect} {
		if err := r.figure(name, "ms", "less", []float64{millis(d)}); err != nil {
			return err
		}
	}
	if err := r.figure("bfd.false-alarms", "sessions", "less", []float64{float64(ours.Flaps)}); err != nil {
		return err
	}
	if err := r.figure("bfd.watched", "s", "more", []float64{ours.Watched.Seconds()}); err != nil {
		return err
	}
	return r.figure("bfd.late", "ms", "less", []float64{millis(ours.Late)})
}
