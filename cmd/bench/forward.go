package main

import (
	"cmp"

	"godwit/cmd/bench/forward"
)

// benchForward measures forwarding against the Linux kernel: see package forward.
func benchForward(r *report) error {
	v4, _, err := fullTable()
	if err != nil {
		return err
	}
	return forward.Run(forward.Options{
		Prefixes: v4,
		Progress: r.progress,
		Emit: func(s forward.Series) error {
			return r.against(s.Name, s.Unit, s.Better, s.Ours, cmp.Or(s.Baseline, "linux"), s.Linux)
		},
	})
}
