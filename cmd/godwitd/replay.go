package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"godwit/cluster/supervisor"
	"godwit/cluster/wire"
)

func replayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay FILE",
		Short: "Do again what the supervisor decided in a recording",
		Long: `replay feeds a file that "godwitd --record FILE" wrote into a supervisor's state
machine of its own and prints each new state of a module. It starts nothing. Recordings
of routes are for "godwit-router replay".`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(c *cobra.Command, args []string) error { return replay(args[0], c.OutOrStdout()) },
	}
}

func replay(path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer f.Close()
	done, err := supervisor.Replay(f, func(st wire.ModuleStatus) {
		fmt.Fprintf(out, "%s  %-16s %-9s", st.Since.Format(time.RFC3339Nano), st.Name, st.State)
		if st.PID != 0 {
			fmt.Fprintf(out, "  process %d", st.PID)
		}
		if st.Reason != "" {
			fmt.Fprintf(out, "  %s", st.Reason)
		}
		fmt.Fprintln(out)
	})
	if err != nil {
		return err
	}
	if !done {
		fmt.Fprintln(out, "the recording ends here; the supervisor had not")
	}
	return nil
}
