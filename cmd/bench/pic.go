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
		name    string
		n, runs int
	}{{"1k", 1000, 5}, {"100k", 100_000, 5}, {"900k", 900_000, 1}} {
		if r.only != "" && r.only != size.name {
			continue
		}
		table, err := pic.NewTable(dir, size.n)
		if err != nil {
			return err
		}
		var last, ratio [2][]float64 // ours, the kernel's
		runs := size.runs
		if r.runs > 0 {
			runs = r.runs
		}
		for range runs {
			base, err := pic.Kernel(context.Background(), o, table)
			if err != nil {
				return fmt.Errorf("BIRD with the kernel: %w", err)
			}
			ours, err := pic.Godwit(context.Background(), o, table)
			if err != nil {
				return fmt.Errorf("measure godwit: %w", err)
			}
			for i, x := range []pic.Result{ours, base} {
				r.progress("%s: %s: first %v, last %v after detection, which took %v: ratio %.2f (loaded in %v)", size.name, []string{"Godwit", "BIRD with the kernel"}[i],
					x.First, x.Last, x.Detect, x.Ratio(), x.Load.Round(time.Millisecond))
				last[i], ratio[i] = append(last[i], millis(x.Last)), append(ratio[i], x.Ratio())
			}
		}
		if err := r.against("pic."+size.name, "ms", "less", last[0], "bird+linux", last[1]); err != nil {
			return err
		}
		if err := r.against("pic."+size.name+".last-to-first", "ratio", "less", ratio[0], "bird+linux", ratio[1]); err != nil {
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
