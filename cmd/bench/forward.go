package main

import (
	"cmp"
	"strings"

	"godwit/cmd/bench/forward"
)

// benchForward measures forwarding against the Linux kernel: see package forward.
func benchForward(r *report) error {
	v4, v6, err := fullTable()
	if err != nil {
		return err
	}
	return forward.Run(forward.Options{
		Prefixes: v4, Prefixes6: v6, Runs: r.runs, Only: strings.FieldsFunc(r.only, func(c rune) bool { return c == ',' }),
		Progress: r.progress,
		Emit: func(s forward.Series) error {
			return r.against(s.Name, s.Unit, s.Better, s.Ours, cmp.Or(s.Baseline, "linux"), s.Linux)
		},
	})
}
