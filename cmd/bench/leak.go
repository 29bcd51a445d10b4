package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"godwit/cmd/bench/converge"
)

// leakRuns is how often the leak is measured.
const leakRuns = 3

// benchLeak measures how long the full IPv4 table takes into a second VRF of
// the line cards, against the time of its own download.
func benchLeak(r *report) error {
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
	t, err := converge.WriteTable(dir, o)
	if err != nil {
		return err
	}
	var leak, download, memory []float64
	for i := range leakRuns {
		x, err := converge.Leak(context.Background(), o, t)
		if err != nil {
			return err
		}
		r.progress("run %d: %d routes downloaded in %.2f s, leaked in %.2f s, routing engine %d MB", i+1, t.N4, x.Download, x.Leak, x.Memory>>20)
		leak, download, memory = append(leak, x.Leak), append(download, x.Download), append(memory, float64(x.Memory))
	}
	if err := r.against("leak.full4", "s", "less", leak, "own download", download); err != nil {
		return err
	}
	return r.figure("leak.memory.router", "bytes", "less", memory)
}
