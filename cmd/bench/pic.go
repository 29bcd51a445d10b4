package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"godwit/cmd/bench/pic"
)

// benchPIC measures the repair after a lost link at three sizes of table, against
// BIRD with the kernel.
func benchPIC(r *report) error {
	o, err := picOptions(r)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "godwit-bench-")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, size := range []struct {
		name string
		n    int
	}{{"1k", 1000}, {"100k", 100_000}, {"900k", 900_000}} {
		table, err := pic.NewTable(dir, size.n)
		if err != nil {
			return err
		}
		base, err := pic.Kernel(context.Background(), o, table)
		if err != nil {
			return fmt.Errorf("BIRD with the kernel: %w", err)
		}
		r.progress("%s: BIRD with the kernel: first %v, last %v after detection, which took %v (loaded in %v)", size.name, base.First, base.Last, base.Detect, base.Load.Round(time.Millisecond))
		ours, err := pic.Godwit(context.Background(), o, table)
		if err != nil {
			return fmt.Errorf("measure godwit: %w", err)
		}
		r.progress("%s: Godwit: first %v, last %v after detection, which took %v (loaded in %v)", size.name, ours.First, ours.Last, ours.Detect, ours.Load.Round(time.Millisecond))
		if err := r.against("pic."+size.name, "ms", "less", []float64{millis(ours.Last)}, "bird+linux", []float64{millis(base.Last)}); err != nil {
			return err
		}
		if err := r.against("pic."+size.name+".last-to-first", "ratio", "less", []float64{ours.Ratio()}, "bird+linux", []float64{base.Ratio()}); err != nil {
			return err
		}
	}
	return nil
}

// picOptions finds the router's binaries beside this one.
func picOptions(r *report) (pic.Options, error) {
	self, err := os.Executable()
	if err != nil {
		return pic.Options{}, fmt.Errorf("find own folder: %w", err)
	}
	bin := filepath.Dir(self)
	if _, err := os.Stat(filepath.Join(bin, "godwitd")); err != nil {
		bin = "bin" // run with "go run" from the root of the tree
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return pic.Options{}, fmt.Errorf("find own folder: %w", err)
	}
	return pic.Options{Bin: bin, Trust: filepath.Join(filepath.Dir(bin), "build", "keys", "trust"), Progress: r.progress}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
