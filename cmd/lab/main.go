// Command lab builds networks of namespaces with real peers on one machine:
// the demo, and any topology file to try things in.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"godwit/cmd/lab/demo"
	"godwit/cmd/lab/topology"
	"godwit/cmd/lab/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		stop()
		os.Exit(1)
	}
}

func root() *cobra.Command {
	self, _ := os.Executable()
	bin, trust, keep := filepath.Dir(self), "", ""
	r := &cobra.Command{Use: "lab", Short: "networks of namespaces with real peers", SilenceUsage: true, SilenceErrors: true}
	r.PersistentFlags().StringVar(&bin, "bin", bin, "folder of the router's binaries")
	r.PersistentFlags().StringVar(&trust, "trust", filepath.Join(filepath.Dir(bin), "build", "keys", "trust"), "folder of the keys they are signed with")
	r.PersistentFlags().StringVar(&keep, "keep", "", "keep configurations and logs in this folder")
	r.AddCommand(
		&cobra.Command{Use: "demo [TOPOLOGY]", Short: "show the router at work", Args: cobra.MaximumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
			file := "configs/lab/demo.yaml"
			if len(args) > 0 {
				file = args[0]
			}
			return demo.Run(c.Context(), demo.Options{Topology: file, Bin: bin, Trust: trust, Self: self, Keep: keep, Out: c.OutOrStdout()})
		}},
		&cobra.Command{Use: "up TOPOLOGY", Short: "build a topology and keep it until interrupted", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			return up(c.Context(), args[0], topology.Options{Bin: bin, Trust: trust, Keep: keep, Log: c.OutOrStdout()})
		}},
		&cobra.Command{Use: "http ADDRESS TEXT", Short: "serve TEXT and as many megabytes as asked for", Args: cobra.ExactArgs(2), RunE: func(c *cobra.Command, args []string) error {
			return web.Serve(c.Context(), args[0], args[1], c.OutOrStdout())
		}},
		&cobra.Command{Use: "get URL", Short: "fetch, check and time", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			return web.Get(c.Context(), args[0], c.OutOrStdout())
		}},
	)
	return r
}

func up(ctx context.Context, file string, o topology.Options) (err error) {
	top, err := topology.Load(file)
	if err != nil {
		return err
	}
	lab, err := topology.Build(ctx, top, o)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := lab.Close(); err == nil {
			err = cerr
		}
	}()
	if err := lab.Start(ctx); err != nil {
		return err
	}
	for _, n := range top.Nodes {
		h := lab.Node(n.Name)
		fmt.Fprintf(o.Log, "%s: ip netns exec %s bash\n", n.Name, h.NetNS)
		if n.Godwit != "" {
			fmt.Fprintf(o.Log, "%s: godwit --run-dir %s show interfaces\n", n.Name, h.RunDir())
		}
	}
	fmt.Fprintln(o.Log, "interrupt (Ctrl-C) removes it all")
	<-ctx.Done()
	return nil
}
