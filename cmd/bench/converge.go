package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"godwit/cmd/bench/converge"
)

// convergeRuns is how many pairs of runs are measured; each takes about a minute.
const convergeRuns = 3

// benchConverge measures the way of the full IPv4 table from a BGP session into
// a line card, against BIRD writing it into the kernel.
func benchConverge(r *report) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own folder: %w", err)
	}
	bin := filepath.Dir(self)
	o := converge.Options{Bin: bin, Trust: filepath.Join(filepath.Dir(bin), "build", "keys", "trust"), Routes: -1, Progress: r.progress}
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	table, n, err := converge.Table(dir, o.Routes)
	if err != nil {
		return err
	}
	var ours, base struct{ seconds, cpu, memory []float64 }
	for i := range convergeRuns {
		b, err := converge.Kernel(context.Background(), o, table, n)
		if err != nil {
			return fmt.Errorf("BIRD into the kernel: %w", err)
		}
		r.progress("run %d: BIRD into the kernel: %d routes in %.1f s, %.1f CPU-s, %d MB", i+1, n, b.Seconds, b.CPU, b.Memory>>20)
		g, err := converge.Godwit(context.Background(), o, table, n)
		if err != nil {
			return fmt.Errorf("Godwit: %w", err)
		}
		r.progress("run %d: Godwit: %d routes in %.1f s, %.1f CPU-s, %d MB", i+1, n, g.Seconds, g.CPU, g.Memory>>20)
		ours.seconds, base.seconds = append(ours.seconds, g.Seconds), append(base.seconds, b.Seconds)
		ours.cpu, base.cpu = append(ours.cpu, g.CPU), append(base.cpu, b.CPU)
		ours.memory, base.memory = append(ours.memory, float64(g.Memory)), append(base.memory, float64(b.Memory))
	}
	const baseline = "bird+linux"
	if err := r.against("converge.full4", "s", "less", ours.seconds, baseline, base.seconds); err != nil {
		return err
	}
	if err := r.against("converge.cpu", "s", "less", ours.cpu, baseline, base.cpu); err != nil {
		return err
	}
	return r.against("converge.memory", "bytes", "less", ours.memory, baseline, base.memory)
}
