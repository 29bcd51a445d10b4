package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"godwit/controlplane/router"
)

func replayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay FILE",
		Short: "Do again what the RIB did in a recording",
		Long: `replay feeds a file that "godwitd --record-routes FILE" or "godwit-router --record FILE"
wrote into a RIB of its own: the same updates at the same times in the same handlers,
without a router around it. It prints what came of it.`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(c *cobra.Command, args []string) error { return replay(args[0], c.OutOrStdout(), os.Stderr) },
	}
}

func replay(path string, out, errs io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer f.Close()
	begin := time.Now()
	r, err := router.Replay(f, slog.New(slog.NewTextHandler(errs, nil)))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d inputs with %d updates, from %s to %s, replayed in %v\n", r.Inputs, r.Updates,
		r.From.Format(time.RFC3339Nano), r.To.Format(time.RFC3339Nano), time.Since(begin).Round(time.Millisecond))
	s := r.Table.Stats()
	fmt.Fprintf(out, "%d changes of forwarding tables; %d VRFs, %d routes of %d candidates, %d groups, %d updates left out\n",
		r.Changes, s.VRFs, s.Routes, s.Candidates, s.Groups, s.Rejected)
	for _, h := range r.Events.Handlers {
		if h.Runs > 0 {
			fmt.Fprintf(out, "handler %s: %d runs, %v on average, at most %v\n", h.Name, h.Runs,
				h.Run.Avg.Round(time.Microsecond), h.Run.Max.Round(time.Microsecond))
		}
	}
	return nil
}
